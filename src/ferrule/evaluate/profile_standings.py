"""What the runs of a profile add up to: ends, differences, areas and tokens to a level, per column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

from ferrule.evaluate.standings import over_seeds

__all__ = ["APART", "area", "leading_of", "pairs_of", "profile_result", "tokens_to"]

APART = 4
"""In how many columns two recipes must be told apart by their intervals to be called different."""
UNTRAINED = "untrained"
OVERALL = "all"
"""Name of the mean over columns."""
Rows = Sequence[Mapping[str, Any]]


def _end(row: Mapping[str, Any], column: str) -> float:
    ends = {name: float(found["success"]) for name, found in row["columns"].items()}
    return fmean(ends.values()) if column == OVERALL else ends[column]


def leading_of(rows: Rows, against: str, count: int) -> list[str]:
    """Return the recipe that others are compared with and the ``count`` best others by their end over all columns."""
    names = dict.fromkeys(row["recipe"] for row in rows if row["recipe"] not in (UNTRAINED, against))
    means = {name: fmean(_end(row, OVERALL) for row in rows if row["recipe"] == name) for name in names}
    return [against, *sorted(means, key=lambda name: -means[name])[:count]]


def area(points: Sequence[tuple[float, float]], budget: float) -> float:
    r"""Return the mean success over the budget, :math:`\frac{1}{B}\int_0^B s(t)\,dt`, by the trapezoidal rule.

    ``points`` are (tokens, success), rising in tokens from 0 on; after the last one success stays, and what lies beyond
    the budget does not count.
    """
    total, (last, value) = 0.0, points[0]
    for tokens, success in points[1:]:
        if tokens > budget > last:  # cut at the budget
            success = value + (success - value) * (budget - last) / (tokens - last)
            tokens = budget
        if last < budget:
            total += (tokens - last) * (value + success) / 2
        last, value = tokens, success
    return (total + max(budget - last, 0.0) * value) / budget


def tokens_to(points: Sequence[tuple[float, float]], level: float) -> float | None:
    """Return after how many tokens success first reaches ``level``, between points in a straight line; None: never."""
    last, value = points[0]
    if value >= level:
        return float(last)
    for tokens, success in points[1:]:
        if success >= level:
            return last + (tokens - last) * (level - value) / (success - value)
        last, value = tokens, success
    return None


def _points(row: Mapping[str, Any], first: Mapping[str, float], column: str) -> list[tuple[float, float]]:
    """Return the way of one run in one column, from the untrained model on."""

    def at(success: Mapping[str, float]) -> float:
        return fmean(success.values()) if column == OVERALL else success[column]

    return [(0.0, at(first)), *((float(tokens), at(success)) for tokens, success in row["curve"])]


def _mean_points(ways: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Return the mean way of several runs, point by point."""
    return [(fmean(way[i][0] for way in ways), fmean(way[i][1] for way in ways)) for i in range(min(map(len, ways)))]


def _differences(rows: Rows, others: Rows, column: str) -> list[float]:
    """Return the differences of ends, paired by seed; a recipe without seeds is the same for all."""
    by_seed = {row.get("seed"): _end(row, column) for row in others}
    if None in by_seed:
        return [_end(row, column) - by_seed[None] for row in rows]
    if any("seed" not in row for row in rows):
        return [_end(rows[0], column) - end for end in by_seed.values()]
    return [_end(row, column) - by_seed[row["seed"]] for row in rows if row["seed"] in by_seed]


def _apart(differences: Sequence[float]) -> int:
    """Say on which side of 0 the interval of differences lies: 1, -1, or 0 where it holds 0."""
    interval = over_seeds(differences)
    if interval is None or interval[0] <= 0 <= interval[1]:
        return 0
    return 1 if interval[0] > 0 else -1


def pairs_of(rows: Rows, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return for every pair of trained recipes in which columns the first does better and worse by the interval.

    Pairs that are told apart nowhere are left out; the others come by the number of their columns.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["recipe"] != UNTRAINED:
            groups.setdefault(row["recipe"], []).append(row)
    pairs = []
    for first, second in combinations(groups, 2):
        sides = {column: _apart(_differences(groups[first], groups[second], column)) for column in columns}
        better, worse = ([column for column, side in sides.items() if side == sign] for sign in (1, -1))
        if better or worse:
            pairs.append({"first": first, "second": second, "better": better, "worse": worse})
    return sorted(pairs, key=lambda pair: -len(pair["better"]) - len(pair["worse"]))


def _column(rows: Rows, base: Rows, plain: Mapping[str, Any], column: str, budget: float) -> dict[str, Any]:
    """Return the numbers of one recipe in one column."""
    first = plain["curve"][0][1]
    ends, differences = [_end(row, column) for row in rows], _differences(rows, base, column)
    ways = [_points(row, first, column) for row in rows]
    start = _points({"curve": []}, first, column)[0][1]
    gained = _mean_points([_points(row, first, column) for row in base])[-1][1] - start
    level = start + gained / 2 if gained > 0 else None
    return {
        "success": fmean(ends),
        "interval": over_seeds(ends),
        "difference": fmean(differences) if rows is not base else None,
        "difference_interval": over_seeds(differences) if rows is not base else None,
        "area": fmean(area(way, budget) for way in ways),
        "level": level,
        "tokens_to_level": tokens_to(_mean_points(ways), level) if level is not None else None,
        "curve": _mean_points(ways),
    }


def profile_result(
    about: Mapping[str, Any], rows: Rows, chosen: Mapping[str, float], tried: Mapping[str, Mapping[float, float]]
) -> dict[str, Any]:
    """Return the comparison as JSON data: a row per recipe with its columns, the pairs told apart, and all runs."""
    names = [column["name"] for column in about["columns"]]
    groups = {name: [row for row in rows if row["recipe"] == name] for name in (UNTRAINED, *about["recipes"])}
    base, plain = groups[about["against"]], groups[UNTRAINED][0]
    table = [
        {
            "recipe": name,
            "rate": chosen.get(name),
            "tried": {f"{rate:g}": value for rate, value in tried.get(name, {}).items()},
            "seeds": [row["seed"] for row in group if "seed" in row],
            "sampled": fmean(row["sampled"] for row in group),
            "steps": fmean(row["steps"] for row in group),
            "changes": group[0]["changes"],
            "columns": {c: _column(group, base, plain, c, about["budget"]) for c in (*names, OVERALL)},
        }
        for name, group in groups.items()
    ]
    machines = {tuple(sorted(row["machine"].items())): row["machine"] for row in rows}
    return {
        "about": dict(about),
        "rows": table,
        "pairs": pairs_of(rows, names),
        "machines": list(machines.values()),
        "runs": [{key: value for key, value in row.items() if key not in ("machine", "changes")} for row in rows],
    }
