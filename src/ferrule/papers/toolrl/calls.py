"""How much of the gold calls a turn or an episode has made, in ToolRL's points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from ferrule.core.arrays import nearest
from ferrule.core.records import Call
from ferrule.rewards.matching import (
    Assignment,
    assign,
    equal_values,
    multiset_jaccard,
    readable,
    same_name,
    similarities,
)

__all__ = ["correctness"]

_GRAINS = ("fine", "intermediate", "coarse")
_OVERLAPS: dict[str, Callable[[list[Any], list[Any]], float]] = {
    "jaccard": multiset_jaccard,
    "exact": lambda one, other: float(one == other),
}


def _same(made: Call, gold: Call, strict: bool) -> bool:
    """Say whether two calls are equal as a whole."""
    names = set(made.arguments) == set(gold.arguments)
    return names and same_name(made, gold) and equal_values(made, gold, strict=strict) == len(gold.arguments)


def correctness(
    made: Sequence[Call],
    golds: Sequence[Call],
    *,
    grain: Literal["fine", "intermediate", "coarse"] = "fine",
    names: Literal["jaccard", "exact"] = "jaccard",
    assignment: Assignment = "in_order",
    strict: bool = True,
) -> float:
    """Share of the gold calls' points that the calls made earn: ``S / S_max`` in 0 to 1, and 1 for identical lists.

    ``S`` is the overlap of tool names plus, for each gold call and its match, the overlap of parameter names and the
    number of equal values; ``S_max = 1 + sum(1 + parameters)``. ``grain="intermediate"`` pays matches that are equal
    as a whole (``S_max = 1 + gold calls``), ``"coarse"`` identical lists alone; ``names="exact"`` replaces overlaps by
    equality of lists in order. Calls that could not be read match nothing. Source: ToolRL (47).
    """
    choices = (
        ("grain", grain, _GRAINS),
        ("names", names, tuple(_OVERLAPS)),
        ("assignment", assignment, get_args(Assignment)),
    )
    for label, value, known in choices:
        if value not in known:
            raise ValueError(f"{label} is {value!r}; {nearest(value, known)}")
    sound = [call for call in made if readable(call)]
    if len(sound) == len(made) == len(golds) and all(_same(m, g, strict) for m, g in zip(made, golds, strict=True)):
        return 1.0
    if grain == "coarse":
        return 0.0
    overlap = _OVERLAPS[names]

    def points(one: Call, gold: Call) -> float:
        if grain == "intermediate" or not same_name(one, gold):
            return float(_same(one, gold, strict))
        return overlap(list(one.arguments), list(gold.arguments)) + equal_values(one, gold, strict=strict)

    score_PG = similarities(sound, golds, points)
    earned = math.fsum(score_PG[pair] for pair in assign(score_PG, assignment))
    most = sum(1 if grain == "intermediate" else 1 + len(gold.arguments) for gold in golds)
    called = [call.name if readable(call) else None for call in made]
    return (overlap(called, [gold.name for gold in golds]) + earned) / (1 + most)
