"""Credit from rewards alone: baselines within a group, across the batch, and none at all.

Sources: GRPO, RLOO and REINFORCE++ as catalogued in "A Technical Survey of Reinforcement Learning Techniques for
Large Language Models" (52).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ferrule.core.arrays import FloatArray, IntArray, nearest
from ferrule.core.marks import exempt

__all__ = ["broadcast", "group_relative", "leave_one_out", "whiten"]

Baseline = Literal["mean", "leave_one_out"]
Spread = Literal["none", "population", "unbiased"]
Singleton = Literal["zero", "raw"]


def _choice(label: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{label} is {value!r}; {nearest(value, known)}")


def _on_tokens(value_N: FloatArray, turn_NT: IntArray) -> FloatArray:
    """Give every model token the value of its row, 0 elsewhere."""
    return np.where(turn_NT >= 0, value_N[:, None], 0.0)


@exempt("centred")
def broadcast(reward_N: FloatArray, turn_NT: IntArray) -> FloatArray:
    """Give every model token the reward of its trajectory, without a baseline: ``A[n, t] = R[n]``."""
    return _on_tokens(reward_N, turn_NT)


def group_relative(
    reward_N: FloatArray,
    group_N: IntArray,
    turn_NT: IntArray,
    *,
    baseline: Baseline = "mean",
    std: Spread = "none",
    eps: float = 1e-6,
    least: float = 0.0,
    singleton: Singleton = "zero",
) -> FloatArray:
    """Compare every reward with its group: ``A[n] = (R[n] - b[n]) / (s + eps)`` on all model tokens of row ``n``.

    ``baseline="mean"`` takes the group mean for ``b``, ``"leave_one_out"`` the mean of the other members (RLOO).
    ``std="none"`` does not divide; ``"population"`` divides by the spread with ``n`` in the denominator,
    ``"unbiased"`` with ``n - 1`` (GRPO); ``eps`` is added to the spread, and one of at most ``least`` divides nothing.
    A group whose rewards are all equal gets exact zeros. A group of one has nothing to compare with:
    ``singleton="zero"`` gives 0, ``"raw"`` its reward (mean 0, std 1, as common trainers do). Groups may differ in
    size. Raises ``ValueError`` on unknown settings and on rewards that are not finite. Source: survey 52 (GRPO, RLOO).
    """
    _choice("baseline", baseline, ("mean", "leave_one_out"))
    _choice("std", std, ("none", "population", "unbiased"))
    _choice("singleton", singleton, ("zero", "raw"))
    if not np.isfinite(reward_N).all():
        raise ValueError(f"reward of row {int(np.flatnonzero(~np.isfinite(reward_N))[0])} is not finite")
    _, index_N = np.unique(group_N, return_inverse=True)
    size_G = np.bincount(index_N)
    low_G = np.full(len(size_G), np.inf)
    np.minimum.at(low_G, index_N, reward_N)
    # Measured from the group's minimum, equal rewards leave exact zeros whatever their size.
    above_N = reward_N - low_G[index_N]
    centred_N = above_N - (np.bincount(index_N, weights=above_N) / size_G)[index_N]
    scale_G = np.ones(len(size_G))
    others_G = np.maximum(size_G - 1, 1)
    if std != "none":
        count_G = size_G if std == "population" else others_G
        spread_G = np.sqrt(np.bincount(index_N, weights=centred_N**2) / count_G)
        scale_G = np.where(spread_G > least, spread_G + eps, 1.0)
    if baseline == "leave_one_out":
        # R - mean of the others = (R - mean of all) * n / (n - 1)
        scale_G = scale_G * others_G / size_G
    constant_G = np.bincount(index_N, weights=above_N) == 0.0
    adv_N = np.where(constant_G[index_N], 0.0, centred_N / np.where(constant_G, 1.0, scale_G)[index_N])
    if singleton == "raw":
        adv_N = np.where(size_G[index_N] == 1, reward_N, adv_N)
    return _on_tokens(adv_N, turn_NT)


def leave_one_out(reward_N: FloatArray, group_N: IntArray, turn_NT: IntArray) -> FloatArray:
    """Compare every reward with the mean of the other members of its group (RLOO): ``A[n] = R[n] - mean(R[others])``.

    A group of one gets 0. Source: survey 52 (RLOO).
    """
    return group_relative(reward_N, group_N, turn_NT, baseline="leave_one_out")


@exempt("independent")
def whiten(adv_NT: FloatArray, turn_NT: IntArray, *, shift: bool = True, eps: float = 1e-8) -> FloatArray:
    """Whiten over all model tokens of the batch: ``(A - mean) / sqrt(var + eps)``, unbiased variance.

    ``shift=False`` adds the mean back. Run it last in a ``chain`` and over the whole batch, so that the result does
    not depend on how the batch is split. Equal advantages give exact zeros. REINFORCE++ is
    ``chain(broadcast, whiten)``. Source: survey 52 (GAE whitening, REINFORCE++).
    """
    mine_NT = turn_NT >= 0
    white_NT = np.zeros(turn_NT.shape, dtype=np.float64)
    values = np.asarray(adv_NT, dtype=np.float64)[mine_NT]
    if values.size == 0:
        return white_NT
    low = values.min()
    centred = values - low
    mean = centred.mean()
    scale = np.sqrt(centred.var(ddof=1) + eps) if values.max() > low else np.inf
    centred = (centred - mean) / scale
    white_NT[mine_NT] = centred if shift else centred + (mean + low)
    return white_NT
