"""Choosing few things that together cover much of what is good, on a budget: hints, tools to show, skills to keep.

Source: "HAIChart: Human and AI Paired Visualization System" (paper 57).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

__all__ = ["adjusted", "covering"]

T = TypeVar("T", bound=Hashable)


def adjusted(covers: Mapping[T, Mapping[Hashable, float]]) -> dict[T, float]:
    """Return the worth of everything on offer: the scores of what it covers, each times how few others cover it.

    ``covers`` has the scores of what each covers. The factor is ``ln(count / frequency)``, where ``count`` is how many
    are on offer and ``frequency`` how many of them cover the same; it is 0 for what all cover, and so with a single
    one.
    """
    frequency = Counter(view for views in covers.values() for view in views)
    return {
        each: sum(score * math.log(len(covers) / frequency[view]) for view, score in views.items())
        for each, views in covers.items()
    }


def covering(
    covers: Mapping[T, Mapping[Hashable, float]], *, most: int = 9, budget: int = 100, per_field: int = 2,
    field: Callable[[T], Hashable] = lambda each: each,
) -> list[T]:  # fmt: skip
    """Choose at most ``most`` things whose covers have at most ``budget`` entries together, by worth per entry.

    They are gone through by their ``adjusted`` worth per entry, then by the worth itself, in the order given among
    equals; one that does not fit, or that is the third of one ``field``, is passed over. What covers nothing, or more
    than the budget, is left out from the start. Choosing best is NP-hard; this rule has no guarantee.
    """
    worth = adjusted(covers)
    offered = {each: views for each, views in covers.items() if 0 < len(views) <= budget}
    ordered = sorted(offered, key=lambda each: (-worth[each] / len(offered[each]), -worth[each]))
    chosen: list[T] = []
    used, fields = 0, Counter[Hashable]()
    for each in ordered:
        size = len(offered[each])
        if len(chosen) < most and used + size <= budget and fields[field(each)] < per_field:
            chosen.append(each)
            used += size
            fields[field(each)] += 1
    return chosen
