"""One decision per component of a reward, where components have very different spreads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.flows import Reward
from ferrule.core.records import Score, Task, Trajectory
from ferrule.studies.network import BARRED
from ferrule.studies.table import Player

__all__ = ["START", "play", "reader", "slope_squared", "start"]

START: Mapping[str, tuple[int, float]] = {"format": (2, 0.95), "accuracy": (24, 1 / 24), "tools": (4, 0.4)}
"""For each component the number of choices and the chance of the right one at the start."""


def start() -> FloatArray:
    """Return the first logits; choice 0 is right, all others share the rest evenly."""
    logits = np.full((len(START), max(size for size, _ in START.values())), BARRED)
    for state, (size, chance) in enumerate(START.values()):
        logits[state, :size] = np.log((1 - chance) / (size - 1))
        logits[state, 0] = np.log(chance)
    return logits


def play(task: Task, player: Player, *, noise: bool = False) -> Trajectory:
    """Decide on every component; with ``noise`` accuracy is luck, whatever was decided."""
    right = {name: float(player.decide(state) == 0) for state, name in enumerate(START)}
    if noise:
        right["accuracy"] = float(player.rng.random() < START["accuracy"][1])
    return player.trajectory(task, "done", final=right)


def reader(name: str) -> Reward:
    """Return the reward of one component: 1 where its decision was right, else 0."""

    def read(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        return [Score(trajectory.final[name]) for trajectory in trajectories]

    return read


def slope_squared(chance_SA: FloatArray, weights: Mapping[str, float]) -> float:
    """Squared norm of the exact gradient of the expected composite reward: ``sum_k w_k p_k (onehot - p)``."""
    right = np.zeros(chance_SA.shape)
    right[:, 0] = 1.0
    weight_S = np.asarray([weights[name] for name in START])
    return float(((weight_S[:, None] * chance_SA[:, :1] * (right - chance_SA)) ** 2).sum())
