"""Passes and wins as ToolEval counts them: tables of verdicts, repeated votes, and the flows that ask a judge.

A judge's reply that cannot be read, or was cut off, is a failure and never a pass. Source: "ToolLLM: Facilitating Large
Language Models to Master 16000+ Real-world APIs" (45), its evaluator.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from ferrule.agents.flow import together
from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Message, plain_text
from ferrule.rewards.pairwise import better_of, compared

__all__ = [
    "Answered", "Passed", "Solvable", "Votes", "judged_pass", "judged_win", "legacy_score", "pass_of", "pass_rate",
    "read_label", "win_of",
]  # fmt: skip

Answered: TypeAlias = Literal["solved", "unsolved", "unsure"]
"""Whether an answer solves what was asked."""
Solvable: TypeAlias = Literal["solvable", "unsolvable", "unsure"]
"""Whether what was asked can be solved with the tools on offer."""
Passed: TypeAlias = Literal["passed", "failed", "unsure"]


def pass_of(answer: Answered | None, task: Solvable | None, *, unsolvable_passes: bool = True) -> Passed:
    """Return whether an item passes, by the published table.

    A solved task passes. An answer that does not solve a solvable task fails, one to an unsolvable task passes (unless
    ``unsolvable_passes`` is False: fails), everything else is unsure. None stands for a verdict that could not be read,
    and fails.
    """
    if answer == "solved":
        return "passed"
    if answer is None or task is None:
        return "failed"
    if task == "unsolvable":
        return "passed" if unsolvable_passes else "failed"
    return "failed" if (answer, task) == ("unsolved", "solvable") else "unsure"


@dataclass(frozen=True)
class Votes:
    """How often one item passed and failed when its judgement was repeated."""

    passes: int
    failures: int

    @property
    def passed(self) -> bool:
        """Whether at least as many votes pass it as fail it; an item without votes has not passed."""
        return self.passes >= self.failures and self.passes > 0


def pass_rate(votes: Sequence[Votes]) -> float:
    """Return the share of items that passed; nan without items."""
    return sum(item.passed for item in votes) / len(votes) if votes else math.nan


def win_of(first: Passed, second: Passed) -> float | None:
    """Return 1 where only the first of two answers passed, 0 where only the second did, None where a judge decides."""
    if {first, second} == {"passed", "failed"}:
        return float(first == "passed")
    return None


def legacy_score(successes: int, tools: int, steps: int) -> float:
    """Return the older score of a failed path: ``10 successes + 5 tools - 5 ln(steps)``; -100,000 without steps.

    ``successes`` are calls that ran well and ``tools`` the different tools among them.
    """
    return 10.0 * successes + 5.0 * tools - 5.0 * math.log(steps) if steps > 0 else -100_000.0


def read_label(text: str, labels: Sequence[str]) -> str | None:
    """Return the one label that a judge's text names as a whole word, in any case; None for none and for several.

    A label right after "not" or "n't" is not named.
    """
    said = text.lower()
    named = {label for label in labels if re.search(rf"(?<!not )(?<!n't )\b{re.escape(label)}\b", said)}
    return named.pop() if len(named) == 1 else None


def judged_pass(
    query: str, answer: str | None, path: str = "", *, tools: str = "", votes: int = 4, role: str = "judge",
    unsure: float = 0.5, unsolvable_passes: bool = True, seed: int = 0, max_tokens: int = 64,
) -> Flow[Votes]:  # fmt: skip
    """Let a judge vote ``votes`` times, side by side, on whether an answer to ``query`` passes.

    ``answer`` is None where none was given, which fails at once; an empty one is unsolved. The judge first sees query
    and answer, and where unsure the whole ``path`` as well; of a task that is not solved it says whether ``tools`` (the
    tools on offer, as text) could solve it. A vote that stays unsure passes with the chance ``unsure``, drawn by
    ``seed`` (the published coin is 0.5; 0 is strict).
    """
    if votes < 1:
        raise ValueError(f"votes is {votes}; the least is 1")
    if answer is None:
        return Votes(0, votes)
    rng = random.Random(f"{seed}/{query}/{answer}")
    ballots = [_vote(query, answer, path, tools, role, unsolvable_passes, max_tokens) for _ in range(votes)]
    verdicts = yield from together(*ballots)
    passes = sum(verdict == "passed" or (verdict == "unsure" and rng.random() < unsure) for verdict in verdicts)
    return Votes(passes, votes - passes)


def _vote(
    query: str, answer: str, path: str, tools: str, role: str, unsolvable_passes: bool, max_tokens: int
) -> Flow[Passed]:
    def label(text: str, kind: Any) -> Generator[Any, Any, Any]:
        labels = get_args(kind)
        asked = f"{text}\n\nReply with one word: {', '.join(labels)}."
        (reply,) = yield from ask(Ask((Message("user", asked),), role=role, max_tokens=max_tokens))
        return read_label(plain_text(reply.message), labels) if reply.finish in ("stop", "answer") else None

    given: Answered | None = "unsolved"
    if answer.strip():
        about = f"Was asked:\n{query}\n\nWas answered:\n{answer}"
        given = yield from label(f"{about}\n\nDoes the answer solve what was asked?", Answered)
        if given == "unsure" and path:
            given = yield from label(f"{about}\n\nHow it was found:\n{path}\n\nDoes it solve what was asked?", Answered)
    task: Solvable | None = None
    if given in ("unsolved", "unsure"):
        offered = f"\n\nTools on offer:\n{tools}" if tools else ""
        task = yield from label(f"Was asked:\n{query}{offered}\n\nCan this be solved?", Solvable)
    return pass_of(given, task, unsolvable_passes=unsolvable_passes)


def judged_win(
    query: str, first: str, second: str, *, passed: tuple[Passed, Passed], role: str = "judge", reference: bool = False
) -> Flow[float | None]:
    """Return how far the first of two answers wins over the second: 1, 0, 0.5, or None without a result of the judge.

    Where one alone passed it wins. Otherwise a judge is shown both, in both orders, and equal texts are a tie;
    ``reference`` shows them in one order alone, as the published code does.
    """
    decided = win_of(*passed)
    if decided is not None:
        return decided
    if first == second:
        return 0.5
    (share,) = yield from compared([(first, second)], better_of(f"Asked:\n{query}"), role=role, reference=reference)
    return share
