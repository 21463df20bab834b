"""Which groups train: filters for ``Recipe.keep``, called with the trajectories and scores of one group."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ferrule.core.arrays import nearest
from ferrule.core.recipe import Keep
from ferrule.core.records import Score, Trajectory

__all__ = ["all_of", "spread", "survivors"]


def _values(scores: Sequence[Score], part: str | None) -> list[float]:
    """Values of a part (None: of the reward) over the scores that train."""
    kept = [score for score in scores if not score.drop]
    if part is None:
        return [score.value for score in kept]
    for score in kept:
        if part not in score.parts:
            raise ValueError(f"unknown reward part {part!r}; {nearest(part, list(score.parts))}")
    return [score.parts[part] for score in kept]


def spread(part: str | None = None, *, least: float = 1e-12, singletons: bool = True) -> Keep:
    """Keep groups whose values differ: the spread of ``part`` (None: of the reward) is above ``least``.

    Groups of one are kept with ``singletons``. Dropped trajectories do not count.
    """

    def keep(trajectories: Sequence[Trajectory], scores: Sequence[Score]) -> bool:
        values = _values(scores, part)
        if len(values) < 2:
            return singletons and len(values) == 1
        return float(np.std(values)) > least

    return keep


def survivors(share: float = 0.5) -> Keep:
    """Keep groups of which at least ``ceil(share * size)`` trajectories were not dropped by the reward.

    Raises ``ValueError`` for a share outside 0 to 1.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share is {share}; it must lie between 0 and 1")

    def keep(trajectories: Sequence[Trajectory], scores: Sequence[Score]) -> bool:
        return sum(not score.drop for score in scores) >= math.ceil(share * len(scores) - 1e-9)

    return keep


def all_of(*filters: Keep) -> Keep:
    """Keep groups that every filter keeps."""

    def keep(trajectories: Sequence[Trajectory], scores: Sequence[Score]) -> bool:
        return all(rule(trajectories, scores) for rule in filters)

    return keep
