"""When enough episodes of a batch have ended, so that the slowest need not be waited for.

Source: "Reinforcement Learning for Long-Horizon Interactive LLM Agents" (paper 32).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

__all__ = ["Enough", "is_enough", "most_of"]

Enough: TypeAlias = Callable[[Sequence[int], int], bool]
"""``enough(ended, samples)``: ``ended`` counts the episodes of each task that have ended, of ``samples`` each."""


def most_of(ended: Sequence[int], samples: int, *, share: float = 0.9, per_task: float = 0.75) -> bool:
    """Say whether a ``share`` of all episodes and a share ``per_task`` of those of every task have ended.

    Raises ``ValueError`` for a share outside 0 to 1.
    """
    for name, value in (("share", share), ("per_task", per_task)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} is {value}; it must lie between 0 and 1")
    whole = sum(ended) >= share * samples * len(ended) - 1e-9
    return whole and all(count >= per_task * samples - 1e-9 for count in ended)


def is_enough(enough: Enough | None, finished: Iterable[int], tasks: int, samples: int) -> bool:
    """Ask ``enough`` about the places of ended episodes, the samples of a task side by side (None: never enough)."""
    if enough is None:
        return False
    counts = Counter(place // samples for place in finished)
    return enough([counts[task] for task in range(tasks)], samples)
