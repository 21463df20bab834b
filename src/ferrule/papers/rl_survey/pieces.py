"""Small pieces of the survey that belong to no other kind: pairs from verifiers and labellers, and Q targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from ferrule.core.arrays import FloatArray, IntArray
from ferrule.core.marks import exempt

__all__ = ["ai_preference", "direct_score", "q_targets", "verifier_pairs"]

T = TypeVar("T")


def ai_preference(labeller: Callable[[T, T], float], first: T, second: T) -> float:
    """Chance that ``first`` is better, averaged over both orders: ``(p(first, second) + 1 - p(second, first)) / 2``.

    The average cancels a constant leaning towards a position. It is the soft label of the pair loss (RLAIF).
    """
    return (labeller(first, second) + 1.0 - labeller(second, first)) / 2.0


def direct_score(mark: float, *, lowest: float = 1.0, highest: float = 10.0) -> float:
    """Map a labeller's mark to -1 to 1: ``2 (mark - lowest) / (highest - lowest) - 1``, marks outside are clipped."""
    return 2.0 * (min(max(mark, lowest), highest) - lowest) / (highest - lowest) - 1.0


def verifier_pairs(reward_N: FloatArray, group_N: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Pair the best rows of each group with its worst, as long as their rewards differ; each row is used once.

    Returns ``(pair, chosen, rows)``: ``rows`` lists row indices, a chosen and a rejected one in turn, ``pair`` their
    pair index and ``chosen`` 1 or 0, ready for ``ferrule.objectives.preference.on_pairs``.
    """
    rows: list[int] = []
    for group in np.unique(group_N):
        members = np.flatnonzero(group_N == group)
        order = members[np.argsort(-reward_N[members], kind="stable")]
        for best, worst in zip(order[: len(order) // 2], order[::-1], strict=False):
            if reward_N[best] > reward_N[worst]:
                rows += [int(best), int(worst)]
    count = len(rows) // 2
    return (
        np.repeat(np.arange(count), 2),
        np.tile(np.asarray([1, 0], dtype=np.int64), count),
        np.asarray(rows, dtype=np.int64),
    )


@exempt("centred")
def q_targets(reward_N: FloatArray, turn_NT: IntArray, value_NT: FloatArray, *, gamma: float = 1.0) -> FloatArray:
    """Targets of token-level Q-learning: ``gamma max Q`` at the next token the model wrote, the reward at its last.

    ``value_NT`` holds ``max_a Q`` just before each token. Observations in between are skipped.
    """
    out = np.zeros(turn_NT.shape, dtype=np.float64)
    rows, columns = np.nonzero(turn_NT >= 0)
    if not len(rows):
        return out
    follows = rows[1:] == rows[:-1]
    after = np.append(np.where(follows, gamma * value_NT[np.r_[rows[1:], 0], np.r_[columns[1:], 0]][:-1], 0.0), 0.0)
    last = np.append(~follows, True)
    out[rows, columns] = np.where(last, reward_N[rows], after)
    return out
