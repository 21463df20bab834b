"""What is learned offline from scored candidates: those that are good enough, or pairs of a better and a worse one."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["accepted", "preference_pairs"]


def accepted(rewards: Sequence[float], base: float) -> list[int]:
    """Places of the candidates whose reward is above ``base``: rejection fine-tuning learns these."""
    return [i for i, reward in enumerate(rewards) if reward > base]


def preference_pairs(rewards: Sequence[float], *, margin: float = 0.1) -> list[tuple[int, int]]:
    """Pairs (better, worse) of the places of candidates whose rewards differ, and by at least ``margin``."""
    places = range(len(rewards))
    apart = max(margin - 1e-12, 0.0)
    return [(i, j) for i in places for j in places if rewards[i] > rewards[j] and rewards[i] - rewards[j] >= apart]
