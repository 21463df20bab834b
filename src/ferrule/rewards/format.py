"""Rewards for well-formed tool use: how many calls could be read, and what each kind of trouble costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import get_args

from ferrule.core.arrays import nearest
from ferrule.core.records import Score, Status, Task, Trajectory, plain_text
from ferrule.core.tally import tally

__all__ = [
    "PENALTIES", "all_text", "call_penalty", "executability", "failed_calls", "format_reward", "replies_text",
    "well_formed_share",
]  # fmt: skip

PENALTIES: Mapping[str, float] = MappingProxyType({"malformed": 1.0, "unknown_tool": 1.0})
"""Penalty of one call by its status; statuses that are not named cost nothing."""


def all_text(trajectory: Trajectory) -> str:
    """Return everything that the model wrote, calls included, joined."""
    return "".join(plain_text(turn.reply) + "".join(call.raw for call in turn.reply.calls) for turn in trajectory.turns)


def replies_text(trajectory: Trajectory) -> str:
    """Return the text of all replies without their calls, one below the other."""
    return "\n".join(plain_text(turn.reply) for turn in trajectory.turns)


def well_formed_share(trajectory: Trajectory) -> float:
    """Share of calls that name a tool on offer and could be read (neither malformed nor unknown); 1.0 without calls."""
    return tally(observation for _, observation in trajectory.calls).well_formed


def failed_calls(trajectory: Trajectory) -> int:
    """Count calls that ran and failed, or ran out of time."""
    return sum(observation.status in ("error", "timeout") for _, observation in trajectory.calls)


def executability(
    task: Task, trajectories: Sequence[Trajectory], *, idle: float = 1.0, indicator: bool = False
) -> list[Score]:
    """Share of an episode's calls that came out ``ok``, ``idle`` without calls; ``indicator`` asks for all of them.

    Source: "Rethinking Reinforcement Fine-Tuning in LVLM" (41).
    """
    scores = []
    for trajectory in trajectories:
        fine = [observation.status == "ok" for _, observation in trajectory.calls]
        share = sum(fine) / len(fine) if fine else idle
        scores.append(Score(float(all(fine)) if indicator and fine else share))
    return scores


def call_penalty(trajectory: Trajectory, penalties: Mapping[str, float] = PENALTIES) -> float:
    """Sum of the penalties of all calls by status; raises ``ValueError`` on a status that does not exist."""
    for status in penalties:
        if status not in get_args(Status):
            raise ValueError(f"unknown call status {status!r}; {nearest(status, list(get_args(Status)))}")
    return sum(penalties.get(observation.status, 0.0) for _, observation in trajectory.calls)


def format_reward(
    task: Task,
    trajectories: Sequence[Trajectory],
    *,
    penalties: Mapping[str, float] = PENALTIES,
    need_answer: bool = True,
) -> list[Score]:
    """Score the form of each trajectory: ``max(0, 1 - sum of penalties / number of calls)``, part ``format``.

    Without calls the form is 1. With ``need_answer`` a trajectory without an answer scores 0. Correctness plays
    no role; combine with an outcome reward by ``ferrule.rewards.combine.weighted``.
    """
    scores = []
    for trajectory in trajectories:
        value = max(0.0, 1.0 - call_penalty(trajectory, penalties) / max(len(trajectory.calls), 1))
        if need_answer and trajectory.answer is None:
            value = 0.0
        scores.append(Score(value=value, parts={"format": value}))
    return scores
