"""A control for every reward: what training does where the reward says nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Score, Task, Trajectory

__all__ = ["CONTROLS", "coin", "random_reward"]


def coin(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Score 0 or 1 by a coin that knows the task, the place in the group and what was written, and nothing of right.

    The same episodes get the same scores, so that a run that goes on after a kill comes to the same numbers.
    """
    scores = []
    for place, trajectory in enumerate(trajectories):
        written = [(turn.sampled, turn.reply.content) for turn in trajectory.turns]
        drawn = random.Random(f"{task.id}/{task.meta.get('pass', 0)}/{place}/{written}").random()
        scores.append(Score(float(drawn < 0.5)))
    return scores


def random_reward(base: Recipe) -> Recipe:
    """Return ``base`` with a random reward. Source: "Spurious Rewards: Rethinking Training Signals in RLVR" (2025)."""
    return vary(base, reward=coin)


CONTROLS: Mapping[str, Callable[[Recipe], Recipe]] = {"random": random_reward}
"""Controls by the name that a stack gives them, such as ``grpo+random``."""
