"""Matching what was called with what should have been: similarities, assignments and transport.

Sources: "ToolRL: Reward is All Tool Learning Needs" (47), "MatchTIR: Fine-Grained Supervision for Tool-Integrated
Reasoning via Bipartite Matching" (23).
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np

from ferrule.core.arrays import FloatArray, nearest
from ferrule.core.records import Call

__all__ = [
    "Assignment", "Similarity", "assign", "call_key", "call_similarity", "equal_values", "multiset_jaccard",
    "readable", "same_name", "similarities", "transport",
]  # fmt: skip

Assignment = Literal["greedy", "exact", "in_order"]
Similarity: TypeAlias = Callable[[Call, Call], float]


def multiset_jaccard(first: Iterable[Hashable], second: Iterable[Hashable]) -> float:
    """Overlap of two multisets: ``sum min(count) / sum max(count)``; 1 when both are empty."""
    a, b = Counter(iter(first)), Counter(iter(second))  # a mapping would be read as counts
    union = (a | b).total()
    return (a & b).total() / union if union else 1.0


def equal_values(call: Call, gold: Call, *, strict: bool = True) -> int:
    """Count the parameters of ``gold`` that ``call`` gives the same value.

    ``strict`` tells 1 from True at any depth, as JSON does (1 and 1.0 are one number); without it Python's equality
    decides.
    """
    shared = [name for name in gold.arguments if name in call.arguments]
    return sum(_same(call.arguments[name], gold.arguments[name], strict) for name in shared)


def _same(first: object, second: object, strict: bool) -> bool:
    if first != second:
        return False
    if not strict:
        return True
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return all(_same(first[key], second[key], strict) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return all(_same(a, b, strict) for a, b in zip(first, second, strict=True))
    return isinstance(first, bool) == isinstance(second, bool)


def readable(call: Call) -> bool:
    """Say whether a call could be read and its arguments are an object, so that it can be compared with another."""
    return not call.problem and isinstance(call.arguments, Mapping)


def call_key(call: Call) -> str:
    """Return a text that two calls share exactly when they name the same tool and bring equal arguments."""
    return json.dumps([call.name, dict(call.arguments)], sort_keys=True, default=str)


def same_name(call: Call, gold: Call, *, fold_case: bool = False) -> bool:
    """Say whether two calls name the same tool; ``fold_case`` ignores upper and lower case."""
    return call.name.casefold() == gold.name.casefold() if fold_case else call.name == gold.name


def call_similarity(call: Call, gold: Call, *, fold_case: bool = True, strict: bool = False) -> float:
    """Similarity in 0 to 1: ``(1 + J + v) / (2 + n)``, 0 for another tool.

    ``J`` is the Jaccard overlap of the parameter names, ``v`` the number of gold parameters with equal value and ``n``
    the number of gold parameters. Source: MatchTIR (23).
    """
    if not same_name(call, gold, fold_case=fold_case):
        return 0.0
    names = multiset_jaccard(call.arguments, gold.arguments)
    return (1.0 + names + equal_values(call, gold, strict=strict)) / (2.0 + len(gold.arguments))


def similarities(calls: Sequence[Call], golds: Sequence[Call], similarity: Similarity = call_similarity) -> FloatArray:
    """Return the matrix ``score_PG`` of all pairs, P calls made by G gold calls."""
    values = [[similarity(call, gold) for gold in golds] for call in calls]
    return np.asarray(values, dtype=np.float64).reshape(len(calls), len(golds))


def assign(score_PG: FloatArray, mode: Assignment = "exact") -> list[tuple[int, int]]:
    """Match rows and columns one to one by positive scores and return pairs ``(row, column)`` in column order.

    ``exact`` has the largest sum (Hungarian method, needs scipy: extra ``train``); ``greedy`` takes the highest pair
    first, ties by row, then column; ``in_order`` lets every column in turn take its best row that is still free.
    """
    if mode not in ("greedy", "exact", "in_order"):
        raise ValueError(f"assignment is {mode!r}; {nearest(mode, ('greedy', 'exact', 'in_order'))}")
    if score_PG.size == 0:
        return []
    if mode == "exact":
        rows, columns = _solver()(score_PG, maximize=True)
        pairs = [(int(p), int(g)) for p, g in zip(rows, columns, strict=True) if score_PG[p, g] > 0]
    elif mode == "greedy":
        pairs = _greedy(score_PG)
    else:
        pairs = _in_order(score_PG)
    return sorted(pairs, key=lambda pair: pair[1])


@functools.cache
def _solver() -> Callable[..., tuple[Sequence[int], Sequence[int]]]:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError("exact assignment needs scipy: pip install \"ferrule[train]\" (or use 'greedy')") from error
    return linear_sum_assignment  # type: ignore[no-any-return]


def _greedy(score_PG: FloatArray) -> list[tuple[int, int]]:
    order = np.argsort(-score_PG, axis=None, kind="stable")
    rows, columns, pairs = set[int](), set[int](), []
    for p, g in zip(*np.unravel_index(order, score_PG.shape), strict=True):
        if score_PG[p, g] > 0 and p not in rows and g not in columns:
            rows.add(int(p))
            columns.add(int(g))
            pairs.append((int(p), int(g)))
    return pairs


def _in_order(score_PG: FloatArray) -> list[tuple[int, int]]:
    free, pairs = list(range(len(score_PG))), []
    for g in range(score_PG.shape[1]):
        best = max(free, key=lambda p: (score_PG[p, g], -p), default=None)
        if best is not None and score_PG[best, g] > 0:
            free.remove(best)
            pairs.append((best, g))
    return pairs


def transport(score_PG: FloatArray, *, reg: float = 0.1, rounds: int = 1000, tolerance: float = 1e-9) -> FloatArray:
    """Entropic transport plan between uniform marginals ``1 / P`` and ``1 / G`` for the cost ``-score`` (Sinkhorn).

    ``T = diag(u) exp(score / reg) diag(v)``, iterated in the logarithm until the marginals hold to ``tolerance``.
    Raises ``ValueError`` unless ``reg`` is above 0. An empty side gives an empty plan.
    """
    if reg <= 0:
        raise ValueError(f"reg is {reg}; it must be above 0")
    if score_PG.size == 0:
        return np.zeros(score_PG.shape)
    kernel_PG = score_PG / reg
    row, column = -np.log(len(score_PG)), -np.log(score_PG.shape[1])
    log_v_G = np.zeros(score_PG.shape[1])
    for _ in range(rounds):
        log_u_P = row - np.logaddexp.reduce(kernel_PG + log_v_G[None, :], axis=1)
        log_v_G = column - np.logaddexp.reduce(kernel_PG + log_u_P[:, None], axis=0)
        plan_PG = np.exp(log_u_P[:, None] + kernel_PG + log_v_G[None, :])
        if np.abs(plan_PG.sum(axis=1) - 1.0 / len(score_PG)).max() < tolerance:
            break
    return np.asarray(plan_PG, dtype=np.float64)
