"""Learning in rounds without forgetting: each round learns its own items, and a share of those of earlier rounds.

Source: "LLMs in the Imaginarium: Tool Learning through Simulated Trial and Error" (19).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["with_replay"]

T = TypeVar("T")


def with_replay(
    batches: Sequence[Sequence[T]], place: int, *, share: float = 0.1, general: Sequence[T] = (), count: int = 2000
) -> list[T]:
    """Return what round ``place`` learns: its batch, ``round(share * N)`` items of each earlier one, and general ones.

    Items of the i-th batch are drawn by the seed i, the same in every round; of ``general`` items at most ``count`` are
    drawn, other ones in each round. Raises ``ValueError`` for a share outside 0 to 1, and a round that there is not.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must lie between 0 and 1")
    if not 0 <= place < len(batches):
        raise ValueError(f"there is no round {place}; the last one is {len(batches) - 1}")
    kept = [
        item
        for number, batch in enumerate(batches[:place])
        for item in random.Random(number).sample(list(batch), round(share * len(batch)))
    ]
    more = random.Random(f"general/{place}").sample(list(general), min(count, len(general)))
    return [*batches[place], *kept, *more]
