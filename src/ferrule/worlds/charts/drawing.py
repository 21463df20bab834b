"""What a chart shows of a table, whether that can be read, and how well it fits what is shown.

Source: "HAIChart: Human and AI Paired Visualization System" (paper 57). The rules are after "DeepEye: Towards Automatic
Data Visualization" (ICDE 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean
from typing import Any, TypeAlias

import numpy as np

from ferrule.worlds.charts.columns import Plotted, Variable
from ferrule.worlds.charts.grammar import CHOICES, X_KINDS, Chart, counts_itself

__all__ = [
    "CHART_FEATURES",
    "Marks",
    "Position",
    "binned",
    "chart_features",
    "marks_of",
    "problem_of",
    "rule_score",
    "step_of",
    "unit_of",
]

Position: TypeAlias = "str | float | datetime"
"""Where a mark stands on x."""
_MOST = {"bar": 40, "arc": 12, "line": 400, "point": math.inf}
"""The most marks that can still be read."""
_EPOCH = datetime(1970, 1, 1)
_SIDES = ("0 or less", "above 0")
_WEEK = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_AGGREGATES: Mapping[str, Callable[[list[float]], float]] = {
    "count": lambda values: float(len(values)), "sum": math.fsum, "average": fmean,
}  # fmt: skip
CHART_FEATURES = (
    *(f"{axis} {what}" for axis in "xy" for what in ("kind", "values", "count", "unique", "least", "largest")),
    *("correlation", "mark"),
)  # fmt: skip
"""The 14 numbers that a chart is ranked by."""


@dataclass(frozen=True)
class Marks:
    """The marks of a chart: where each stands on x and y, in the order of x; ``kind`` is that of the axis of x."""

    x: tuple[Position, ...]
    y: tuple[float, ...]
    kind: str


def unit_of(variable: Variable) -> str:
    """Return the unit of time that a column is cut by on its own: year, month or date, by how far it reaches."""
    moments = [cell for cell in variable.cells if isinstance(cell, datetime)]
    days = (max(moments) - min(moments)).days if moments else 0
    return "year" if days > 4 * 366 else "month" if days > 62 else "date"


def binned(variable: Variable, how: str | None) -> tuple[list[Position | None], str]:
    """Return the cells of a column after binning, and their kind; numbers become the beginning of their step."""
    cells, kind = list(variable.cells), variable.kind
    if how is None or kind == "categorical":
        return cells, kind
    if kind == "temporal":
        moments = [cell if isinstance(cell, datetime) else None for cell in cells]
        if how == "day":
            return [None if moment is None else _WEEK[moment.weekday()] for moment in moments], "categorical"
        unit = "date" if how == "date" else unit_of(variable)
        return [None if moment is None else _begins(moment, unit) for moment in moments], "temporal"
    numbers = [cell if isinstance(cell, float) else None for cell in cells]
    if how == "zero":
        return [None if number is None else _SIDES[number > 0] for number in numbers], "categorical"
    step = step_of(variable)
    return [None if number is None else math.floor(round(number / step, 9)) * step for number in numbers], "numerical"


def step_of(variable: Variable, steps: int = 10) -> float:
    """Return the least of 1, 2 and 5 times a power of ten that cuts the reach of a column into at most ``steps``."""
    numbers = [cell for cell in variable.cells if isinstance(cell, float)]
    width = max(numbers) - min(numbers) if numbers else 0.0
    if width <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(width / steps))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * steps >= width * (1 - 1e-9))


def _begins(moment: datetime, unit: str) -> datetime:
    """Return when the year, month or date of a moment begins."""
    return datetime(moment.year, 1 if unit == "year" else moment.month, moment.day if unit == "date" else 1)


def marks_of(table: Plotted, chart: Chart) -> Marks:
    """Return the marks of a chart; rows with an empty cell in x or y are left out."""
    cells, kind = binned(table.variable(chart.x), chart.bin if chart.transform else None)
    rows = zip(cells, table.variable(chart.y).cells, strict=True)
    pairs = [(x, y if isinstance(y, float) else math.nan) for x, y in rows if x is not None and y is not None]
    if chart.transform and chart.aggregate is not None:
        grouped: dict[Position, list[float]] = {}
        for x, y in pairs:
            grouped.setdefault(x, []).append(y)
        pairs = [(x, _AGGREGATES[chart.aggregate](values)) for x, values in grouped.items()]
    order: Any = _WEEK.index if chart.bin == "day" and kind == "categorical" and chart.transform else lambda x: x
    pairs.sort(key=lambda pair: (order(pair[0]), pair[1]))
    return Marks(tuple(x for x, _ in pairs), tuple(y for _, y in pairs), kind)


def problem_of(table: Plotted, chart: Chart, marks: Marks | None = None) -> str:
    """Say why a chart cannot be read; an empty text where it can.

    It needs two marks at least and not too many, one y for every x unless it is of points, something that differs, and
    shares of a whole that are not negative. Aggregates need the groups of x, and nothing else does.
    """
    if chart.group not in (None, chart.x):
        return f"it is grouped by {chart.group!r}, which is not on its x"
    if table.variable(chart.x).kind not in X_KINDS[chart.mark]:
        return f"{chart.x!r} is {table.variable(chart.x).kind}, which {chart.mark} does not show on x"
    if chart.aggregate is None and (chart.group is not None or chart.bin is not None):
        return "it puts rows together without saying how"
    if chart.aggregate not in (None, "count") and chart.x == chart.y:
        return f"it shows {chart.x!r} against itself"
    if table.variable(chart.y).kind != "numerical" and not counts_itself(table, chart.aggregate):
        return f"{chart.y!r} has no numbers"
    marks = marks or marks_of(table, chart)
    if len(marks.x) < 2:
        return f"it has {len(marks.x)} mark{'s' * (len(marks.x) != 1)}"
    if len(marks.x) > _MOST[chart.mark]:
        return f"it has {len(marks.x)} marks, too many to read"
    if chart.mark != "point" and len(set(marks.x)) < len(marks.x):
        return "it has several marks at one place of x"
    if chart.mark == "line" and len(marks.x) < 3:
        return "its line has two points"
    if len(set(marks.y)) < 2 and chart.aggregate is None:
        return "all its marks are alike"
    if chart.mark == "arc" and (min(marks.y) < 0 or sum(marks.y) <= 0 or chart.aggregate == "average"):
        return "its parts make no whole"
    return "it shows a column against itself" if chart.x == chart.y and chart.aggregate is None else ""


def rule_score(table: Plotted, chart: Chart, marks: Marks | None = None) -> float:
    """Return how well a mark suits what is shown by rules of thumb, 0 to 1.

    Parts of a whole are few and uneven, bars are few enough to compare, a line needs an order and a trend, points need
    numbers that go together. A chart that cannot be read has 0.
    """
    marks = marks or marks_of(table, chart)
    if problem_of(table, chart, marks):
        return 0.0
    count, ordered = len(marks.x), marks.kind != "categorical"
    if chart.mark == "arc":
        shares = [y / sum(marks.y) for y in marks.y]
        evenness = -sum(p * math.log(p) for p in shares if p > 0) / math.log(count)
        return (1.0 if count <= 6 else 6 / count) * (1.2 - evenness if evenness > 0.2 else 1.0)
    if chart.mark == "bar":
        return (1.0 if count <= 12 else 12 / count) * (0.6 if marks.kind == "temporal" else 1.0)
    if chart.mark == "line":
        return (0.3 if not ordered else 1.0) * (0.4 + 0.6 * abs(_correlation(table, chart, marks)))
    return abs(_correlation(table, chart, marks)) * (1.0 if chart.aggregate is None else 0.5)


def chart_features(table: Plotted, chart: Chart, marks: Marks | None = None) -> tuple[float, ...]:
    """Return the numbers of ``CHART_FEATURES``.

    For either axis: its kind (0 categorical, 1 numerical, 2 temporal), different values, values, their ratio, least and
    largest (0 for texts, days for moments); then the correlation, and which of the four marks.
    """
    marks = marks or marks_of(table, chart)
    numbers: list[float] = []
    for cells, kind in ((marks.x, marks.kind), (marks.y, "numerical")):
        different, ends = len(set(cells)), _numbers(cells) if kind != "categorical" else []
        code = ("categorical", "numerical", "temporal").index(kind)
        numbers += [code, different, len(cells), different / max(len(cells), 1)]
        numbers += [min(ends, default=0.0), max(ends, default=0.0)]
    return (*numbers, _correlation(table, chart, marks), float(CHOICES["mark"].index(chart.mark)))


def _numbers(cells: Sequence[Position]) -> list[float]:
    return [(cell - _EPOCH) / timedelta(days=1) if isinstance(cell, datetime) else float(cell) for cell in cells]


def _correlation(table: Plotted, chart: Chart, marks: Marks) -> float:
    """Return the correlation of x and y as drawn, or how much of y's variance the categories of x explain, -1 to 1."""
    if marks.kind != "categorical":
        x, y = np.array(_numbers(marks.x)), np.array(marks.y)
        return float(np.corrcoef(x, y)[0, 1]) if len(x) > 1 and np.ptp(x) > 0 and np.ptp(y) > 0 else 0.0
    cells, _ = binned(table.variable(chart.x), chart.bin)
    grouped: dict[object, list[float]] = {}
    for cell, value in zip(cells, table.variable(chart.y).cells, strict=True):
        if cell is not None and isinstance(value, float):
            grouped.setdefault(cell, []).append(value)
    every = [value for values in grouped.values() for value in values]
    if len(grouped) < 2 or len(set(every)) < 2:
        return 0.0
    mean = fmean(every)
    between = sum(len(values) * (fmean(values) - mean) ** 2 for values in grouped.values())
    return math.sqrt(between / sum((value - mean) ** 2 for value in every))
