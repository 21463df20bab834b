"""Refinement: propose texts, check them, select parents, and propose again from what the checks said.

The same loop serves answers, programs, instructions and tool descriptions; what differs is who proposes and what a
check is: tests, demonstrations, a judge, or an episode in a world. Sources: "ARC Prize 2025: Technical Report" (16),
"LLM Interactive Optimization of Open Source Python Libraries" (35).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from ferrule.agents.flow import together
from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Message, plain_text

__all__ = [
    "Candidate",
    "Check",
    "Checked",
    "Propose",
    "Refined",
    "Select",
    "StopRule",
    "best",
    "from_model",
    "from_nothing",
    "in_batch",
    "pareto",
    "ranked",
    "refine",
    "sampled",
    "settled",
    "shares",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Checked:
    """What a check says of a text: how good it is, whether nothing is left to gain, and what its author is told.

    ``scores`` are several aims beside ``score``, for ``pareto``; ``data`` is whatever the check wants to keep.
    """

    score: float
    solved: bool = False
    feedback: str = ""
    scores: tuple[float, ...] = ()
    data: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Candidate:
    """A text that was checked: its number in the order of proposals, and the numbers of those it was made from."""

    text: str
    checked: Checked
    number: int = 0
    parents: tuple[int, ...] = ()


Propose: TypeAlias = Callable[[Sequence[Candidate]], "Flow[Sequence[str]] | Sequence[str]"]
"""Returns new texts, made from the given parents; from nothing in the first round."""
Check: TypeAlias = Callable[[str], "Flow[Checked] | Checked"]
"""Checks one text; as a flow it may ask a model or call tools."""
Select: TypeAlias = Callable[[Sequence[Candidate]], Sequence[Sequence[Candidate]]]
"""Returns the groups of parents of the next round, each of which is proposed from once."""
StopRule: TypeAlias = Callable[[Sequence[Candidate]], str]
"""Says after a round why the refinement ends, by all candidates so far; an empty text where it goes on."""


@dataclass(frozen=True)
class Refined:
    """The result of a refinement: all candidates in the order of proposals, and why it ended."""

    candidates: tuple[Candidate, ...]
    ended: str

    @property
    def best(self) -> Candidate:
        """The candidate with the largest score; of equals the first."""
        return max(self.candidates, key=lambda candidate: candidate.checked.score)


def ranked(refined: Refined) -> list[Candidate]:
    """Return all candidates, those with the largest scores first, of equals the earlier ones."""
    return sorted(refined.candidates, key=lambda candidate: -candidate.checked.score)


def best(count: int = 1, *, pooled: bool = False) -> Select:
    """Select the ``count`` candidates with the largest scores, first ones first: each by itself, or all ``pooled``."""

    def select(candidates: Sequence[Candidate]) -> Sequence[Sequence[Candidate]]:
        chosen = sorted(candidates, key=lambda candidate: -candidate.checked.score)[:count]
        return [chosen] if pooled else [[candidate] for candidate in chosen]

    return select


def from_nothing(candidates: Sequence[Candidate]) -> Sequence[Sequence[Candidate]]:
    """Select no parents, so that every round draws independently of what was checked."""
    return [()]


def pareto(candidates: Sequence[Candidate]) -> Sequence[Sequence[Candidate]]:
    """Select each candidate by itself that no other is at least as good as in all ``scores`` and better in one."""

    def beaten(one: Candidate, other: Candidate) -> bool:
        pairs = list(zip(other.checked.scores, one.checked.scores, strict=True))
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    return [[one] for one in candidates if not any(beaten(one, other) for other in candidates)]


def shares(scores: Sequence[float]) -> list[float]:
    """Return ``exp(score) / sum of exp(scores)`` of each: how likely ``sampled`` draws it first."""
    best = max(scores)
    weights = [1.0 if score == best else math.exp(score - best) for score in scores]  # equal infinities are equal
    return [weight / sum(weights) for weight in weights]


def sampled(count: int = 2, *, pooled: bool = True, seed: object = 0) -> Select:
    """Select ``count`` candidates at random without replacement, by ``shares`` of their scores.

    They are one group, or each is one by itself where they are not ``pooled``. The same candidates are drawn the same
    way for the same ``seed``.
    """

    def select(candidates: Sequence[Candidate]) -> Sequence[Sequence[Candidate]]:
        rng, left = random.Random(f"{seed}/{len(candidates)}"), list(candidates)
        chosen: list[Candidate] = []
        while left and len(chosen) < count:
            (place,) = rng.choices(range(len(left)), shares([one.checked.score for one in left]))
            chosen.append(left.pop(place))
        return [chosen] if pooled else [[candidate] for candidate in chosen]

    return select


def refine(
    propose: Propose, check: Check, *, select: Select | None = None, rounds: int = 8, checks: int | None = None,
    patience: int | None = None, start: Sequence[Candidate] = (), stop: StopRule | None = None,
) -> Flow[Refined]:  # fmt: skip
    """Propose and check texts until one is solved or the budget is spent, and return all of them.

    Every round proposes once from each group of parents that ``select`` picks (default: the best candidate) and checks
    the new texts side by side. The first round has no parents, or picks them from ``start`` (a library of earlier
    tasks, checked already), whose candidates are numbered anew. Texts that were checked before are not checked again.
    It ends ``solved`` when a check says so (or one of ``start`` is), when ``checks`` are used up, when ``stop`` says
    so, after ``patience`` rounds in a row without a larger score, or after ``rounds``. Raises ``ValueError`` for a
    limit below 1, and when nothing was ever proposed.
    """
    for name, limit in (("rounds", rounds), ("checks", checks), ("patience", patience)):
        if limit is not None and limit < 1:
            raise ValueError(f"{name} is {limit}; the least is 1")
    select = select or best()
    candidates = [Candidate(one.text, one.checked, number) for number, one in enumerate(start)]
    known = {candidate.text for candidate in start}
    idle, left = 0, checks
    if any(candidate.checked.solved for candidate in candidates):
        return _ended(candidates, "solved")
    for _ in range(rounds):
        groups = select(candidates) if candidates else [()]
        proposed = yield from in_batch([propose(group) for group in groups])
        fresh = [(text, group) for texts, group in zip(proposed, groups, strict=True) for text in texts]
        fresh = [one for place, one in enumerate(fresh) if _new(one[0], known, fresh[:place])][:left]
        results = yield from in_batch([check(text) for text, _ in fresh])
        before = max((candidate.checked.score for candidate in candidates), default=float("-inf"))
        for (text, group), checked in zip(fresh, results, strict=True):
            candidates.append(Candidate(text, checked, len(candidates), tuple(one.number for one in group)))
        known |= {text for text, _ in fresh}
        left = None if left is None else left - len(fresh)
        idle = 0 if any(checked.score > before for checked in results) else idle + 1
        if any(checked.solved for checked in results):
            return _ended(candidates, "solved")
        if left == 0:
            return _ended(candidates, "checks")
        if stop is not None and (why := stop(candidates)):
            return _ended(candidates, why)
        if patience is not None and idle >= patience:
            return _ended(candidates, "no gain")
    return _ended(candidates, "rounds")


def _ended(candidates: Sequence[Candidate], why: str) -> Refined:
    if not candidates:
        raise ValueError("nothing was ever proposed")
    return Refined(tuple(candidates), why)


def _new(text: str, known: set[str], before: Sequence[tuple[str, Any]]) -> bool:
    return text not in known and all(text != other for other, _ in before)


def in_batch(results: Sequence[Flow[T] | T]) -> Flow[list[T]]:
    """Return the results; those that are flows run side by side, so that what they ask for shares batches."""
    flows = {place: result for place, result in enumerate(results) if hasattr(result, "send")}
    values = list(results)
    if flows:
        for place, value in zip(flows, (yield from together(*flows.values())), strict=True):  # type: ignore[arg-type]
            values[place] = value
    return values  # type: ignore[return-value]


def from_model(
    messages: Sequence[Message], *, samples: int = 1, role: str = "solver", max_tokens: int = 512,
    read: Callable[[Message], str] = plain_text,
) -> Propose:  # fmt: skip
    """Return what asks a model for ``samples`` texts: after ``messages``, each parent as its own, and its feedback.

    ``read`` takes the text out of a reply; replies without one propose nothing.
    """

    def propose(parents: Sequence[Candidate]) -> Flow[list[str]]:
        shown = list(messages)
        for parent in parents:
            shown += [Message("assistant", parent.text), Message("user", parent.checked.feedback or _AGAIN)]
        replies = yield from ask(Ask(tuple(shown), n=samples, role=role, max_tokens=max_tokens))
        return [text for reply in replies if (text := read(reply.message))]

    return propose


_AGAIN = "Write another one."


def settled(flow: Flow[T]) -> T:
    """Return what a flow returns that waits for nothing: a refinement whose parts are plain functions.

    Raises ``RuntimeError`` when it asks a model or calls a tool, for which an agent and a driver are needed.
    """
    try:
        next(flow)
    except StopIteration as stop:
        result: T = stop.value
        return result
    flow.close()
    raise RuntimeError("the flow asks a model or calls a tool; play it as part of an agent")
