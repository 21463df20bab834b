"""What a model derives itself: its own steps, without code and results of tools, against those of a reference.

Source: "From Proof to Program: Characterizing Tool-Induced Reasoning Hallucinations in Large Language Models" (11).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ferrule.agents.flow import together
from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Message, Score, Task, Trajectory, plain_text
from ferrule.rewards.tooleval import read_label

__all__ = [
    "Covers", "Share", "coverage", "judged_coverage", "missing", "own_steps", "reference_steps", "right_steps", "share",
    "split_steps", "standing", "stated",
]  # fmt: skip

Verdicts: TypeAlias = Sequence[bool | None]
Covers: TypeAlias = Callable[[Task, Sequence[str]], "Flow[Verdicts] | Verdicts"]
"""Says of every reference step of a task whether a solution, given by its steps, has it; None where nobody knows."""
_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_COMMENT = re.compile(r"^[ \t]*#+[ \t]*(\S.*)$", re.MULTILINE)
_BETWEEN = re.compile(r"(?<=[.!?;])\s+|\n+")
_NUMBERING = re.compile(r"\W*(?:\d+(?:[.,/]\d+)*)?[.)]?\W*")


def split_steps(text: str) -> list[str]:
    """Return the steps of a text: its sentences and lines; a bare number is none."""
    parts = (part.strip() for part in _BETWEEN.split(text))
    return [part for part in parts if not _NUMBERING.fullmatch(part)]


def own_steps(trajectory: Trajectory, *, comments: bool = False) -> tuple[str, ...]:
    """Return the steps that a model wrote itself, turn by turn.

    Fenced code, calls and what tools returned are no steps. With ``comments`` those of code count, in fences and in the
    arguments of calls.
    """
    return tuple(step for turn in trajectory.turns for step in _said(turn.reply, comments))


def _said(reply: Message, comments: bool) -> Iterator[str]:
    text = plain_text(reply)
    if comments:
        text = _FENCED.sub(lambda block: "\n".join(("", *_COMMENT.findall(block[0]), "")), text)
    yield from split_steps(_FENCED.sub("\n", text))
    for call in reply.calls if comments else ():
        for value in call.arguments.values():
            yield from _COMMENT.findall(value) if isinstance(value, str) else ()


def reference_steps(task: Task) -> tuple[str, ...]:
    """Return the steps of the reference solution, ``task.meta["solution_steps"]``; none where the task has none.

    Raises ``ValueError`` for steps that are one text.
    """
    steps = task.meta.get("solution_steps") or ()
    if isinstance(steps, str):
        raise ValueError(f"solution_steps of task {task.id!r} are one text; give a list (split_steps makes one)")
    return tuple(map(str, steps))


def standing(text: str) -> re.Pattern[str]:
    """Return the pattern of a text that stands by itself: not within a longer word or number, and not negated.

    9 stands in "so 9." and in "8-9"; in 19, 9.5, 0.9, 9,000 and -9 it does not.
    """
    before = r"(?<!\w)" + r"(?<!\d\.)(?<!^[-\u2212])(?<![^\w)][-\u2212])" * text[:1].isdigit()
    after = r"(?!\w)" + r"(?!\.\d)(?!,\d{3}(?!\d))" * text[-1:].isdigit()
    return re.compile(before + re.escape(text) + after)


def stated(task: Task, steps: Sequence[str]) -> list[bool]:
    """Say of every reference step whether its text stands in a step of the solution, whatever its case and spaces.

    It stands there as ``standing`` says.
    """
    said = [_folded(step) for step in steps]
    wanted = [standing(_folded(step)) for step in reference_steps(task)]
    return [any(pattern.search(step) for step in said) for pattern in wanted]


def _folded(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".;")


def judged_coverage(*, role: str = "judge", max_tokens: int = 64) -> Covers:
    """Return what asks a judge about every reference step, all side by side; None where a reply cannot be read."""

    def covers(task: Task, steps: Sequence[str]) -> Flow[Verdicts]:
        solution = "\n".join(steps) or "(nothing)"
        return (yield from together(*(_has(task.prompt, solution, step) for step in reference_steps(task))))

    def _has(query: str, solution: str, step: str) -> Flow[bool | None]:
        text = (
            f"Problem:\n{query}\n\nSolution:\n{solution}\n\nReference step:\n{step}\n\nDoes the solution have a "
            "counterpart of this step, in whatever words? Reply with one word: covered, missing."
        )
        (reply,) = yield from ask(Ask((Message("user", text),), role=role, max_tokens=max_tokens))
        if reply.finish not in ("stop", "answer"):
            return None
        label = read_label(plain_text(reply.message), ("covered", "missing"))
        return None if label is None else label == "covered"

    return covers


def coverage(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Score the share of the reference steps that a trajectory states itself, 0 to 1 (``stated``); also a part.

    A task without reference steps (``meta["solution_steps"]``) scores 0.
    """
    scores = []
    for trajectory in trajectories:
        verdicts = stated(task, own_steps(trajectory))
        value = sum(verdicts) / len(verdicts) if verdicts else 0.0
        scores.append(Score(value, parts={"coverage": value}))
    return scores


@dataclass(frozen=True)
class Share:
    """A share of steps: the ``mean`` over ``count`` solutions with known steps, and over all steps ``pooled``.

    ``unknown`` counts the steps that nobody could judge, which are left out. Shares of nothing are nan.
    """

    mean: float
    pooled: float
    count: int
    unknown: int = 0

    def as_dict(self) -> Mapping[str, float | None]:
        """Return plain JSON data; what is not known is None."""
        numbers = {"mean": self.mean, "pooled": self.pooled}
        known = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        return {**known, "count": self.count, "unknown": self.unknown}


def share(rows: Sequence[Verdicts]) -> Share:
    """Return the share of steps that are True, of one row per solution."""
    known = [[verdict for verdict in row if verdict is not None] for row in rows]
    judged = [row for row in known if row]
    total = sum(map(len, judged))
    mean = sum(sum(row) / len(row) for row in judged) / len(judged) if judged else math.nan
    pooled = sum(map(sum, judged)) / total if total else math.nan
    return Share(mean, pooled, len(judged), sum(map(len, rows)) - total)


def missing(covered: Sequence[Verdicts]) -> Share:
    """Return the miss rate: the share of reference steps without a counterpart, of one row of verdicts per solution."""
    return share([[None if verdict is None else not verdict for verdict in row] for row in covered])


def right_steps(scores: Sequence[Sequence[float | None]], *, threshold: float = 0.5) -> Share:
    """Return the share of steps whose score is at least ``threshold``, of one row of scores per solution."""
    return share([[None if score is None else score >= threshold for score in row] for row in scores])
