"""Verdicts of a judge are read from the record; what cannot be read is never taken for a good one."""

from __future__ import annotations

from typing import Any

import pytest

from ferrule.core.records import Message, Task, Trajectory, Turn
from ferrule.rewards.judge import judged, verdict

TASK = Task("t", "?")


def mark(text: str) -> float | None:
    """Read ``mark: NUMBER``."""
    head, _, number = text.partition("mark: ")
    return float(number) if not head and number else None


def turn(number: int, text: str, role: str = "judge", **more: Any) -> Turn:
    return Turn(number, None, (1,), (2,), (0.0,), Message("assistant", text), role=role, **more)


def beside(*others: Turn, role: str = "judge") -> Trajectory:
    return Trajectory(
        TASK, (turn(0, "mark: 1", "solver"),), others=tuple(Trajectory(TASK, (t,), role=role) for t in others)
    )


def test_the_last_reply_of_the_role_counts() -> None:
    """Turn 3 is the latest of the judge, wherever its path stands; the critic's and the solver's replies are others'."""
    path = beside(turn(3, "mark: 0.25"), turn(1, "mark: 1"))
    path = Trajectory(
        TASK, path.turns, others=(*path.others, Trajectory(TASK, (turn(4, "mark: 0.75", "critic"),), role="critic"))
    )
    (score,) = judged(mark)(TASK, [path])
    assert (score.value, dict(score.parts)) == (0.25, {"judge": 0.25, "unreadable": 0.0})
    assert judged(mark, role="critic")(TASK, [path])[0].value == 0.75


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (beside(), "the role 'judge' never replied"),
        (beside(turn(1, "mark: 1", finish="length")), "the reply of 'judge' ended by 'length'"),
        (beside(turn(1, "mark: one")), "the reply of 'judge' could not be read: could not convert"),
        (beside(turn(1, "well done")), "the reply of 'judge' holds no verdict"),
        (beside(turn(1, "mark: nan")), "the reply of 'judge' holds no verdict"),
        (beside(turn(1, "mark: 99")), "the verdict 99.0 of 'judge' lies outside -1.0 to 1.0"),
        (beside(turn(1, "mark: inf")), "lies outside"),
        (beside(turn(2, "no mark"), turn(1, "mark: 1")), "holds no verdict"),
    ],
)  # fmt: skip
def test_what_is_no_verdict_scores_lowest_and_says_why(path: Trajectory, problem: str) -> None:
    (score,) = judged(mark, lowest=-1.0)(TASK, [path])
    assert (score.value, score.parts["unreadable"]) == (-1.0, 1.0)
    assert problem in score.info["problem"]
    said = verdict(path, mark, lowest=-1.0)
    assert said.value is None
    assert said.problem == score.info["problem"]


def test_bounds_that_hold_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="lowest must be a number below highest"):
        judged(mark, lowest=1.0)
