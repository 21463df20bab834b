"""What a judge said of an episode, read from its record: the judge is a role that the agent asked.

A judge is a flow of the agent: it yields ``Ask(messages, role="judge")``, the driver plays it under the policy of that
role, and its turns stand beside the solver's as ``Trajectory.others``. They cost tokens of their own role and are
never trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ferrule.core.flows import Reward
from ferrule.core.records import Score, Task, Trajectory, plain_text

__all__ = ["Reader", "Verdict", "judged", "verdict"]

Reader: TypeAlias = Callable[[str], "float | None"]


@dataclass(frozen=True)
class Verdict:
    """What the last reply of a judge says: its text, and the value, or why there is none."""

    text: str
    value: float | None = None
    problem: str = ""


def verdict(
    trajectory: Trajectory, read: Reader, *, role: str = "judge", lowest: float = 0.0, highest: float = 1.0
) -> Verdict:
    """Read the last reply of a role beside a trajectory.

    ``read(text)`` returns a value, or None (or raises ``ValueError``) where it finds no verdict. No reply of the role,
    one that was cut off, and a value outside ``lowest`` to ``highest`` are problems, never a value.
    """
    turns = [turn for path in trajectory.others if path.role == role for turn in path.turns]
    if not turns:
        return Verdict("", problem=f"the role {role!r} never replied")
    last = max(turns, key=lambda turn: turn.id)
    text = plain_text(last.reply)
    if last.finish != "stop":
        return Verdict(text, problem=f"the reply of {role!r} ended by {last.finish!r}")
    try:
        value = read(text)
    except ValueError as error:
        return Verdict(text, problem=f"the reply of {role!r} could not be read: {error}")
    if value is None or math.isnan(value):
        return Verdict(text, problem=f"the reply of {role!r} holds no verdict")
    if not lowest <= value <= highest:
        return Verdict(text, problem=f"the verdict {value} of {role!r} lies outside {lowest} to {highest}")
    return Verdict(text, float(value))


def judged(read: Reader, *, role: str = "judge", lowest: float = 0.0, highest: float = 1.0) -> Reward:
    """Return the reward that is the verdict of a judge, also as the part ``judge``.

    Where there is no verdict the score is ``lowest``, the part ``unreadable`` is 1, and ``Score.info`` says why: an
    answer that confuses its judge gains nothing by it.
    """
    if not -math.inf < lowest < highest < math.inf:
        raise ValueError(f"verdicts from {lowest} to {highest}; lowest must be a number below highest")

    def reward(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        scores = []
        for trajectory in trajectories:
            said = verdict(trajectory, read, role=role, lowest=lowest, highest=highest)
            value = lowest if said.value is None else said.value
            parts = {"judge": value, "unreadable": float(said.value is None)}
            scores.append(Score(value, parts=parts, info={"verdict": said.text, "problem": said.problem}))
        return scores

    return reward
