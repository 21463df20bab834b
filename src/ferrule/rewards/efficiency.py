"""Counting what an answer cost: calls with a price hook, success per call, and length."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ferrule.core.records import Call, Observation, Score, Task, Trajectory

__all__ = ["Cost", "call_cost", "calls_per_success", "overlong", "productivity", "unit_cost", "written"]

Cost: TypeAlias = Callable[[Call, Observation], float]


def unit_cost(call: Call, observation: Observation) -> float:
    """Price every call that counts (``ferrule.core.tally``) at 1; everything else is free."""
    return float(observation.counted)


def call_cost(trajectory: Trajectory, cost: Cost = unit_cost) -> float:
    """Sum of ``cost(call, observation)`` over the answered calls of a trajectory (in calls by default)."""
    return math.fsum(cost(call, observation) for call, observation in trajectory.calls)


def written(trajectory: Trajectory) -> float:
    """Number of tokens that the model itself wrote; observations are left out."""
    return float(trajectory.sampled_count)


def productivity(correct: Sequence[float], calls: Sequence[float]) -> float:
    """Tool productivity: ``sum(correct) / sum(calls)``; infinite when right answers took no call, 0 without any.

    Report it together with accuracy and mean calls. Source: "OTC: Optimal Tool Calls via Reinforcement Learning" (06).
    """
    right, total = math.fsum(correct), math.fsum(calls)
    if total == 0:
        return math.inf if right else 0.0
    return right / total


def calls_per_success(correct: Sequence[float], calls: Sequence[float]) -> float:
    """Calls spent per right answer: ``sum(calls) / sum(correct)``, infinite when none was right."""
    right = math.fsum(correct)
    return math.fsum(calls) / right if right else math.inf


def overlong(
    task: Task,
    trajectories: Sequence[Trajectory],
    *,
    longest: int = 20_480,
    buffer: int = 4_096,
    factor: float = 1.0,
    floor: float = -1.0,
    length: Callable[[Trajectory], float] = written,
) -> list[Score]:
    """Soft overlong penalty: 0 up to ``longest - buffer`` tokens, falling linearly to ``-factor`` at ``longest``.

    ``max(floor, factor * min(0, (longest - buffer - length) / buffer))``, part ``overlong``. ``length`` counts tokens,
    by default those the model wrote. ``floor`` of minus infinity lets the penalty grow past ``longest``. Source: DAPO
    as listed in "A Technical Survey of Reinforcement Learning Techniques for Large Language Models" (52).
    """
    if not 0 < buffer <= longest:
        raise ValueError(f"overlong needs 0 < buffer <= longest, not buffer={buffer}, longest={longest}")
    values = [max(floor, factor * min(0.0, (longest - buffer - length(t)) / buffer)) for t in trajectories]
    return [Score(value=value, parts={"overlong": value}) for value in values]
