"""Credit on trees: values of a step's descendants, steps compared with their siblings, and shared steps once.

A tree is the matrix ``node_NK`` (rows share the ids of the steps they share). Source: "PORTool: Tool-Use LLM Training
with Rewarded Tree" (31); how values of descendants are joined is a reconstruction and stays a choice.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ferrule.core.arrays import BoolArray, FloatArray, IntArray, nearest, spread_turns
from ferrule.core.marks import exempt

__all__ = ["check_settings", "first_visits", "tree_relative", "tree_rewards"]

Join = Literal["max", "mean"]


@exempt("centred")
def first_visits(node_NK: IntArray, turn_NT: IntArray) -> BoolArray:
    """Say for every model token whether its step occurs here for the first time, shape (N, T), bool.

    As ``Recipe.mask`` it lets a step that several paths share enter the loss once.
    """
    first_NK = np.zeros(node_NK.shape, dtype=bool)
    flat = node_NK.ravel()
    _, places = np.unique(flat, return_index=True)
    first_NK.ravel()[places] = True
    return spread_turns((first_NK & (node_NK >= 0)).astype(np.float64), turn_NT).astype(bool)


def _paths(node_NK: IntArray) -> dict[int, list[tuple[int, int]]]:
    """Map every step to the cells (row, turn) where it stands."""
    cells: dict[int, list[tuple[int, int]]] = {}
    for n, k in zip(*np.nonzero(node_NK >= 0), strict=True):
        cells.setdefault(int(node_NK[n, k]), []).append((int(n), int(k)))
    return cells


def check_settings(gamma: float, join: str) -> None:
    """Refuse a ``gamma`` outside 0 to 1 and an unknown ``join`` with ``ValueError``."""
    if join not in ("max", "mean"):
        raise ValueError(f"join is {join!r}; {nearest(join, ('max', 'mean'))}")
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma is {gamma}; it must lie between 0 and 1")


def tree_rewards(
    reward_N: FloatArray,
    turn_reward_NK: FloatArray,
    node_NK: IntArray,
    turns_N: IntArray,
    *,
    gamma: float = 0.95,
    join: Join = "max",
) -> FloatArray:
    """Reward of every step: ``R(s) = join_i gamma^(T_i - t) R_i + r(s)`` over the paths ``i`` through ``s``.

    ``R_i`` is ``reward_N``, ``T_i`` the last turn of the path, ``t`` the turn of the step and ``r`` its own
    ``turn_reward_NK``. Shape (N, K), 0 past the last turn; a shared step has one value in all its rows. Raises
    ``ValueError`` for invalid settings (``check_settings``) and for rewards that are not finite.
    """
    check_settings(gamma, join)
    if not (np.isfinite(reward_N).all() and np.isfinite(turn_reward_NK).all()):
        raise ValueError("rewards must be finite: found NaN or infinity in reward_N or turn_reward_NK")
    reward_NK = np.zeros(node_NK.shape, dtype=np.float64)
    for cells in _paths(node_NK).values():
        reached = [gamma ** (int(turns_N[n]) - 1 - k) * reward_N[n] for n, k in cells]
        value = max(reached) if join == "max" else float(np.mean(reached))
        for n, k in cells:
            reward_NK[n, k] = value + turn_reward_NK[n, k]
    return reward_NK


def _standard(values: FloatArray, eps: float) -> FloatArray:
    """Z-scores with the unbiased spread; zeros for a single value and for equal ones."""
    if len(values) < 2 or np.ptp(values) == 0.0:
        return np.zeros(len(values))
    return np.asarray((values - values.mean()) / (values.std(ddof=1) + eps), dtype=np.float64)


@exempt("centred")
def tree_relative(
    reward_N: FloatArray,
    group_N: IntArray,
    turn_NT: IntArray,
    node_NK: IntArray,
    turn_reward_NK: FloatArray,
    turns_N: IntArray,
    *,
    gamma: float = 0.95,
    trajectory_weight: float = 1.0,
    fork_weight: float = 1.0,
    join: Join = "max",
    eps: float = 1e-6,
) -> FloatArray:
    """Blend two comparisons per step: ``A(s) = w1 mean_i A_traj(i) + w2 A_fork(s)``, on the model tokens of ``s``.

    ``A_traj`` is the outcome's z-score within the group, averaged over the paths through ``s``; ``A_fork`` the z-score
    of ``tree_rewards`` among steps with the same parent (roots of a group are siblings), 0 without a sibling. Spreads
    are unbiased, ``eps`` is added to them. Use with ``first_visits`` as mask, so that a shared step counts once.
    """
    value_NK = tree_rewards(reward_N, turn_reward_NK, node_NK, turns_N, gamma=gamma, join=join)
    path_N = np.zeros(len(reward_N))
    for group in np.unique(group_N):
        path_N[group_N == group] = _standard(reward_N[group_N == group], eps)
    cells = _paths(node_NK)
    families: dict[tuple[int, int], list[int]] = {}
    for node, places in cells.items():
        n, k = places[0]
        parent = int(node_NK[n, k - 1]) if k else -1
        families.setdefault((int(group_N[n]), parent), []).append(node)
    adv_NK = np.zeros(node_NK.shape)
    for siblings in families.values():
        fork = _standard(np.asarray([value_NK[cells[node][0]] for node in siblings]), eps)
        for node, relative in zip(siblings, fork, strict=True):
            mean = float(np.mean([path_N[n] for n, _ in cells[node]]))
            for place in cells[node]:
                adv_NK[place] = trajectory_weight * mean + fork_weight * relative
    return spread_turns(adv_NK, turn_NT)
