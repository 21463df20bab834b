"""Rules that change advantages after they were normalised; they run behind another rule in a ``chain``."""

from __future__ import annotations

import numpy as np

from ferrule.core.arrays import BoolArray, FloatArray, IntArray
from ferrule.core.marks import exempt

__all__ = ["drop_small", "nudged", "spread_out", "thinned"]


def nudged(
    adv_NT: FloatArray,
    own_NT: BoolArray,
    group_N: IntArray,
    feature_N: FloatArray,
    scale_N: FloatArray,
    eligible_N: BoolArray,
    *,
    delta: float,
    limit: float,
) -> FloatArray:
    """Push advantages by how a feature compares within the group, without ever changing their sign.

    A building block of rules: ``own_NT`` (bool) marks the model's tokens, the rest is one number per row.
    Rows with ``eligible_N`` and a positive advantage get ``A + clip(delta (f - mean f) / mean s, -limit A, limit A)``,
    with means over the eligible rows of their group; all others keep theirs. ``limit`` lies in 0 to 1. Source:
    "Understanding Tool-Integrated Reasoning" (12), equation of ASPO with any feature ``f`` and scale ``s``.
    """
    if not 0.0 <= limit < 1.0:
        raise ValueError(f"limit is {limit}; it must be at least 0 and below 1, or signs could change")
    nudged_NT = np.array(adv_NT, dtype=np.float64)
    eligible_N = np.asarray(eligible_N, dtype=bool)
    for group in np.unique(group_N[eligible_N]):
        rows = np.flatnonzero(eligible_N & (group_N == group))
        scale = float(scale_N[rows].mean())
        if scale == 0.0:
            continue
        push = delta * (feature_N[rows] - feature_N[rows].mean()) / scale
        gains = np.maximum(nudged_NT[rows], 0.0)
        most = np.minimum(limit * gains, np.nextafter(gains, 0.0))  # the product of a tiny number is rounded up to it
        nudged_NT[rows] += np.where(own_NT[rows], np.clip(push[:, None], -most, most), 0.0)
    return nudged_NT


def drop_small(adv_NT: FloatArray, turn_NT: IntArray, *, least: float = 0.01) -> FloatArray:
    """Set advantages below ``least`` in size to 0; their tokens stay in the denominators of the loss.

    Source: "Reinforcement Learning for Long-Horizon Interactive LLM Agents" (32).
    """
    return np.where((turn_NT >= 0) & (np.abs(adv_NT) >= least), adv_NT, 0.0)


@exempt("independent")
def spread_out(adv_NT: FloatArray, turn_NT: IntArray) -> FloatArray:
    """Scale advantages so that a mean over all model tokens becomes the mean over tokens of rows that have any.

    Rows whose advantage is 0 throughout then no longer thin out the others: ``A T / T'`` with ``T`` all model tokens
    and ``T'`` those of rows with a non-zero advantage, over the whole batch, whatever the micro-batches.
    """
    own_N = (turn_NT >= 0).sum(axis=1)
    active = own_N[(adv_NT != 0.0).any(axis=1)].sum()
    return adv_NT * (own_N.sum() / active) if active else np.array(adv_NT, dtype=np.float64)


@exempt("independent")
def thinned(adv_NT: FloatArray, turn_NT: IntArray, size_N: IntArray) -> FloatArray:
    """Scale advantages so that a mean over the model's tokens becomes one over all tokens of the responses.

    A response reaches from the first token that the model wrote to the end of its row: ``A T / T'`` with ``T`` the
    model's tokens and ``T'`` all of them, observations included, over the whole batch. Source: the released code of
    "TAPO" (02).
    """
    mine_NT = turn_NT >= 0
    own_N = mine_NT.sum(axis=1)
    first_N = np.where(own_N > 0, mine_NT.argmax(axis=1), size_N)
    spanned = np.maximum(size_N - first_N, own_N).sum()
    return np.asarray(adv_NT * (own_N.sum() / spanned if spanned else 1.0), dtype=np.float64)
