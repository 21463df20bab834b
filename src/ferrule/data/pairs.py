"""What offline training takes from scored candidates: the good ones, or pairs of a better and a worse one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from ferrule.core.arrays import FloatArray, IntArray

__all__ = ["accepted", "ends_of_each", "preference_pairs", "verifier_pairs"]


def accepted(rewards: Sequence[float], base: float) -> list[int]:
    """Places of the candidates whose reward is above ``base``: rejection fine-tuning trains on these."""
    return [i for i, reward in enumerate(rewards) if reward > base]


def preference_pairs(rewards: Sequence[float], *, margin: float = 0.1) -> list[tuple[int, int]]:
    """Pairs (better, worse) of the places of candidates whose rewards differ, and by at least ``margin``."""
    places = range(len(rewards))
    apart = max(margin - 1e-12, 0.0)
    return [(i, j) for i in places for j in places if rewards[i] > rewards[j] and rewards[i] - rewards[j] >= apart]


def ends_of_each(
    rewards: Sequence[float], keys: Sequence[Hashable | None], *, margin: float = 0.0
) -> list[tuple[int, int]]:
    """Pairs (best, worst) of the places of candidates with the same key, one per key whose rewards differ enough.

    They have to lie more than ``margin`` apart; of equal rewards the first counts. Candidates whose key is None are in
    no pair. Keys that tell final answers apart give pairs of equal answers: such a pair says nothing of the answer and
    all the more of the way to it.
    """
    places: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        if key is not None:
            places.setdefault(key, []).append(place)
    ends = [(max(own, key=lambda i: rewards[i]), min(own, key=lambda i: rewards[i])) for own in places.values()]
    return [(best, worst) for best, worst in ends if rewards[best] - rewards[worst] > margin]


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
