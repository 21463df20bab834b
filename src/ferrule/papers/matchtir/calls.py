"""What calls and answers are worth beside their references."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

from ferrule.core.arrays import nearest
from ferrule.core.records import Call
from ferrule.rewards.matching import (
    Assignment,
    Similarity,
    assign,
    call_similarity,
    readable,
    similarities,
    transport,
)

__all__ = ["call_rewards", "solve_rates", "word_f1"]


def call_rewards(
    made: Sequence[Call],
    golds: Sequence[Call],
    *,
    mode: Literal["hard", "soft"] = "hard",
    assignment: Assignment = "exact",
    similarity: Similarity = call_similarity,
    reg: float = 0.1,
) -> list[float]:
    """Reward of every call made against all gold calls, each 0 to 1.

    ``hard`` gives a call the similarity of its one match (0 without). ``soft`` gives ``sum_j T_ij S_ij`` with the
    transport plan ``T`` of ``reg`` and uniform marginals, which is at most ``1 / len(made)``: fewer calls raise all
    that remain. Calls that could not be read are no calls and get 0. Raises ``ValueError`` on settings that are none.
    Source: MatchTIR (23).
    """
    for label, value, known in (("mode", mode, ("hard", "soft")), ("assignment", assignment, get_args(Assignment))):
        if value not in known:
            raise ValueError(f"{label} is {value!r}; {nearest(value, known)}")
    if not reg > 0:
        raise ValueError(f"reg is {reg}; it must be above 0")
    places = [p for p, call in enumerate(made) if readable(call)]
    score_PG = similarities([made[p] for p in places], golds, similarity)
    if mode == "soft":
        earned = [float(value) for value in (transport(score_PG, reg=reg) * score_PG).sum(axis=1)]
    else:
        matched = dict(assign(score_PG, assignment))
        earned = [float(score_PG[p, matched[p]]) if p in matched else 0.0 for p in range(len(places))]
    by_place = dict(zip(places, earned, strict=True))
    return [by_place.get(p, 0.0) for p in range(len(made))]


def solve_rates(solved: int, calls: int, golds: int) -> dict[str, float]:
    """Return precision ``solved / calls``, rate ``solved / golds``, and ``f1 = 2 solved / (calls + golds)``.

    ``solved`` of the ``golds`` reference answers came out of ``calls`` calls; a share of nothing is 0. Source:
    MatchTIR (23), evaluation on FTRL.
    """
    shares = {"precision": (solved, calls), "rate": (solved, golds), "f1": (2 * solved, calls + golds)}
    return {name: part / whole if whole else 0.0 for name, (part, whole) in shares.items()}


def _words(text: object) -> set[str]:
    return set(re.sub(r"[\W_]+", " ", str(text).lower()).split())


def word_f1(answer: str | None, gold: Any) -> float:
    """Overlap of the *sets* of words, without case and punctuation: ``2 |a & b| / (|a| + |b|)``, 0 when none is shared.

    A list of accepted answers counts by the best. Source: MatchTIR (23).
    """
    if answer is None or gold is None:
        return 0.0
    if isinstance(gold, (list, tuple)):
        return max((word_f1(answer, one) for one in gold), default=0.0)
    ours, theirs = _words(answer), _words(gold)
    shared = len(ours & theirs)
    return 2.0 * shared / (len(ours) + len(theirs)) if shared else 0.0
