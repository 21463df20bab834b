"""How much of a rubric an answer meets, as a judge says of each criterion.

A judge is a flow that asks under a role of its own, so an agent that searches or a program that evaluates yields from
it. Source of the score: "HealthBench: Evaluating Large Language Models Towards Improved Human Health"
(arXiv 2505.08775).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ferrule.core.flows import Ask, Flow
from ferrule.core.records import Message, Reply, plain_text
from ferrule.rewards.tooleval import read_label

__all__ = ["Criterion", "RubricScore", "judged_rubric", "rubric_value"]


@dataclass(frozen=True)
class Criterion:
    """What an answer should do, and what that is worth; with ``points`` below 0, what it should not do.

    Raises ``ValueError`` for an empty text and for points that are 0 or no finite number.
    """

    text: str
    points: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a criterion that says or counts nothing."""
        if not self.text.strip():
            raise ValueError("Criterion.text is empty; say what an answer should do")
        if self.points == 0 or not math.isfinite(self.points):
            raise ValueError(f"Criterion.points is {self.points}; give a number other than 0")


@dataclass(frozen=True)
class RubricScore:
    """The score of an answer in 0 to 1, and which criteria it meets; None for those of which nothing is known."""

    value: float
    met: tuple[bool | None, ...]


def rubric_value(rubric: Sequence[Criterion], met: Sequence[bool | None]) -> float:
    """Return the points of the criteria that are met over all points above 0, cut to 0 to 1.

    What is not known gains nothing: it counts as not met, and where points are below 0 as met. Raises ``ValueError``
    for a rubric without points above 0, and for another number of verdicts than of criteria.
    """
    most = math.fsum(one.points for one in rubric if one.points > 0)
    if most <= 0:
        raise ValueError(f"a rubric of {len(rubric)} criteria has no points above 0; an answer could gain nothing")
    counted = [one.points < 0 if said is None else said for one, said in zip(rubric, met, strict=True)]
    points = math.fsum(one.points for one, said in zip(rubric, counted, strict=True) if said)
    return min(max(points / most, 0.0), 1.0)


def judged_rubric(
    query: str, answer: str | None, rubric: Sequence[Criterion], *, role: str = "judge", max_tokens: int = 64
) -> Flow[RubricScore]:
    """Ask a judge about every criterion of a rubric by itself, all in one batch, and score the answer.

    A reply that failed, was cut off or cannot be read leaves its criterion unknown (None), which ``rubric_value`` never
    counts in favour of the answer. No answer, or an empty one, scores 0 without asking.
    """
    rubric_value(rubric, [None] * len(rubric))  # refuses a rubric before anybody is asked
    if answer is None or not answer.strip():
        return RubricScore(0.0, (None,) * len(rubric))
    about = f"Was asked:\n{query}\n\nWas answered:\n{answer}\n\nCriterion:\n"
    end = "\n\nIs this so of the answer? Reply with one word: yes, no."
    asks = tuple(Ask((Message("user", f"{about}{one.text}{end}"),), role=role, max_tokens=max_tokens) for one in rubric)
    answers: Sequence[Sequence[Reply]] = yield asks
    met = tuple(_read(replies[0]) for replies in answers)
    return RubricScore(rubric_value(rubric, met), met)


def _read(reply: Reply) -> bool | None:
    if reply.finish not in ("stop", "answer"):
        return None
    return {"yes": True, "no": False}.get(read_label(plain_text(reply.message), ("yes", "no")) or "")
