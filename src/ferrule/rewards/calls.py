"""What calls are worth: beside reference calls, as a share of all points or call by call, and beside the tools offered.

Sources: "ToolRL: Reward is All Tool Learning Needs" (47), "MatchTIR: Fine-Grained Supervision for Tool-Integrated
Reasoning via Bipartite Matching" (23), "AdaReasoner: dynamic tool orchestration for iterative visual reasoning" (29).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

from ferrule.core.arrays import nearest
from ferrule.core.records import Call
from ferrule.rewards.matching import (
    Assignment,
    Similarity,
    assign,
    call_similarity,
    equal_values,
    multiset_jaccard,
    readable,
    same_name,
    similarities,
    transport,
)

__all__ = ["Grain", "Names", "call_rewards", "call_score", "correctness"]

Grain: TypeAlias = Literal["fine", "intermediate", "coarse"]
Names: TypeAlias = Literal["required", "union"]
_OVERLAPS: dict[str, Callable[[list[Any], list[Any]], float]] = {
    "jaccard": multiset_jaccard,
    "exact": lambda call, gold: float(call == gold),
}


def _check(**choices: tuple[str, Sequence[str]]) -> None:
    """Refuse a setting that is not one of the known values."""
    for label, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f"{label} is {value!r}; {nearest(value, known)}")


def _same(call: Call, gold: Call, strict: bool) -> bool:
    """Say whether two calls are equal as a whole."""
    names = set(call.arguments) == set(gold.arguments)
    return names and same_name(call, gold) and equal_values(call, gold, strict=strict) == len(gold.arguments)


def correctness(
    calls: Sequence[Call],
    golds: Sequence[Call],
    *,
    grain: Grain = "fine",
    names: Literal["jaccard", "exact"] = "jaccard",
    assignment: Assignment = "in_order",
    strict: bool = True,
) -> float:
    """Share of the gold calls' points that the calls made earn: ``S / S_max`` in 0 to 1, and 1 for identical lists.

    ``S`` is the overlap of tool names plus, for each gold call and its match, the overlap of parameter names and the
    number of equal values; ``S_max = 1 + sum(1 + parameters)``. ``grain="intermediate"`` pays matches that are equal
    as a whole (``S_max = 1 + gold calls``), ``"coarse"`` identical lists alone; ``names="exact"`` replaces overlaps by
    equality of lists in order. Calls that could not be read match nothing. Raises ``ValueError`` on unknown settings.
    Source: ToolRL (47).
    """
    _check(
        grain=(grain, get_args(Grain)), names=(names, tuple(_OVERLAPS)), assignment=(assignment, get_args(Assignment))
    )
    sound = [call for call in calls if readable(call)]
    if len(sound) == len(calls) == len(golds) and all(_same(m, g, strict) for m, g in zip(calls, golds, strict=True)):
        return 1.0
    if grain == "coarse":
        return 0.0
    overlap = _OVERLAPS[names]

    def points(call: Call, gold: Call) -> float:
        if grain == "intermediate" or not same_name(call, gold):
            return float(_same(call, gold, strict))
        return overlap(list(call.arguments), list(gold.arguments)) + equal_values(call, gold, strict=strict)

    score_PG = similarities(sound, golds, points)
    earned = math.fsum(score_PG[pair] for pair in assign(score_PG, assignment))
    most = sum(1 if grain == "intermediate" else 1 + len(gold.arguments) for gold in golds)
    called = [call.name if readable(call) else None for call in calls]
    return (overlap(called, [gold.name for gold in golds]) + earned) / (1 + most)


def call_rewards(
    calls: Sequence[Call],
    golds: Sequence[Call],
    *,
    mode: Literal["hard", "soft"] = "hard",
    assignment: Assignment = "exact",
    similarity: Similarity = call_similarity,
    reg: float = 0.1,
) -> list[float]:
    """Reward of every call made against all gold calls, each 0 to 1.

    ``hard`` gives a call the similarity of its one match (0 without). ``soft`` gives ``sum_j T_ij S_ij`` with the
    transport plan ``T`` of ``reg`` and uniform marginals, which is at most ``1 / len(calls)``: fewer calls raise all
    that remain. Calls that could not be read are left out and get 0. Raises ``ValueError`` on unknown settings.
    Source: MatchTIR (23).
    """
    _check(mode=(mode, ("hard", "soft")), assignment=(assignment, get_args(Assignment)))
    if not reg > 0:
        raise ValueError(f"reg is {reg}; it must be above 0")
    places = [p for p, call in enumerate(calls) if readable(call)]
    score_PG = similarities([calls[p] for p in places], golds, similarity)
    if mode == "soft":
        earned = [float(value) for value in (transport(score_PG, reg=reg) * score_PG).sum(axis=1)]
    else:
        matched = dict(assign(score_PG, assignment))
        earned = [float(score_PG[p, matched[p]]) if p in matched else 0.0 for p in range(len(places))]
    by_place = dict(zip(places, earned, strict=True))
    return [by_place.get(p, 0.0) for p in range(len(calls))]


def call_score(
    call: Call | None,
    required: Mapping[str, Sequence[str]],
    *,
    names: Names = "required",
    valid: Callable[[Call], float] = lambda call: 1.0,
) -> float:
    """Score a call: 0 unreadable, 1 readable, 2 an offered tool, plus the share of its parameters, plus valid values.

    ``required`` maps the offered tools to their required parameters. The share is ``|given & required| / |required|``
    (1 when none is required), or with ``names="union"`` over ``|given | required|``, so that extra ones cost.
    ``valid(call)``, 0 to 1, counts once all required ones are there. Raises ``ValueError`` on unknown ``names``.
    Source: AdaReasoner (29).
    """
    _check(names=(names, get_args(Names)))
    if call is None or not readable(call):
        return 0.0
    if call.name not in required:
        return 1.0
    needed, given = set(required[call.name]), set(call.arguments)
    among = needed | given if names == "union" else needed
    share = len(needed & given) / len(among) if among else 1.0
    return 2.0 + share + (valid(call) if needed <= given else 0.0)
