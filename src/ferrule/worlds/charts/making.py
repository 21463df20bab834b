"""Tables drawn by a seed, with relations planted in them: the charts that show a relation are known to be good."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean, pstdev
from typing import Any

from ferrule.worlds.charts.columns import Plotted, plotted
from ferrule.worlds.charts.drawing import problem_of
from ferrule.worlds.charts.grammar import Chart, Partial, chart_of, fill, legal_choices

__all__ = ["Planted", "all_charts", "draw_table", "grade"]

_TEXTS = {
    "city": ("Ayr", "Bonn", "Cork", "Dole", "Elva", "Faro", "Gent"), "team": ("red", "blue", "green", "gold"),
    "channel": ("shop", "web", "phone"), "size": ("S", "M", "L", "XL"), "fruit": ("apple", "fig", "lime", "pear"),
}  # fmt: skip
_NUMBERS = ("price", "sales", "delay", "weight", "visits", "rating")
_TITLES = ("orders", "trips", "stock", "survey", "visits by hour", "returns")


@dataclass(frozen=True)
class Planted:
    """A table, and the charts that show what was planted in it, as ``Chart.drawn``."""

    table: Plotted
    charts: tuple[Chart, ...]


def draw_table(rng: random.Random, level: int) -> Planted:
    """Draw a table with ``level`` (1 to 5) setting its width: 2 columns and one relation, up to 8 and four.

    A number depends on a text, on time, or on another number, is a part of a whole, or is noise.
    """
    texts = rng.sample(sorted(_TEXTS), 1 + level // 2)
    numbers = rng.sample(_NUMBERS, 1 + level // 2 + (level > 3))
    times = ["day"] if level > 1 else []
    rows = rng.randrange(50, 120)
    columns: dict[str, list[Any]] = {}
    for name in texts:
        chosen = rng.sample(_TEXTS[name], rng.randrange(3, len(_TEXTS[name]) + 1))
        columns[name] = rng.choices(chosen, k=rows)
    begin = datetime(2020 + rng.randrange(6), 1 + rng.randrange(12), 1)
    for name in times:
        columns[name] = [begin + timedelta(days=round(place * 330 / rows)) for place in range(rows)]
    charts: list[Chart] = []
    for place, name in enumerate(numbers):
        kinds = ["text", "part"] + ["time"] * bool(times) + ["number"] * (place > 0) + ["noise"] * (place > 1)
        kind, text, other = rng.choice(kinds), rng.choice(texts), rng.choice(numbers[: max(place, 1)])
        noise = [rng.gauss(0, 1) for _ in range(rows)]
        values: list[float]
        if kind in ("text", "part"):
            values = _by_text(rng, columns[text], noise, parts=kind == "part")
            mark, aggregate = ("arc", "sum") if kind == "part" else ("bar", "average")
            charts.append(Chart(mark, text, name, True, aggregate, text))
        elif kind == "time":
            slope = rng.choice((-1, 1)) * rng.uniform(6, 12) / rows
            values = [20 + slope * row + 0.7 * error for row, error in enumerate(noise)]
            charts.append(Chart("line", "day", name, True, "average", "day", "auto"))
        elif kind == "number":
            values = _by_number(rng, columns[other], noise)
            charts.append(Chart("point", other, name))
        else:
            values = [50 + 5 * error for error in noise]
        columns[name] = [round(value, 2) for value in values]
    order = list(columns)
    rng.shuffle(order)
    return Planted(plotted(rng.choice(_TITLES), {name: columns[name] for name in order}), tuple(charts))


def _by_text(rng: random.Random, cells: list[str], noise: list[float], *, parts: bool) -> list[float]:
    """Return numbers around a level per text; as ``parts`` of a whole the levels rise steeply."""
    texts = sorted(set(cells))
    level = {text: rng.uniform(1, 2) * (25.0 * (1 + place) if parts else 4.0) for place, text in enumerate(texts)}
    return [abs(level[text] + 0.7 * error) for text, error in zip(cells, noise, strict=True)]


def _by_number(rng: random.Random, cells: list[float], noise: list[float]) -> list[float]:
    """Return numbers that rise or fall with others."""
    width, slope = max(pstdev(cells), 1e-9), rng.choice((-3, 3)) * rng.uniform(1, 2)
    return [30 + slope * (cell - fmean(cells)) / width + error for cell, error in zip(cells, noise, strict=True)]


def all_charts(table: Plotted) -> Iterator[Chart]:
    """Yield every chart of a table that can be read, once as it is drawn."""
    known: set[Chart] = set()
    waiting: list[Partial] = [()]
    while waiting:
        partial = waiting.pop()
        waiting += [fill(partial, choice) for choice in reversed(legal_choices(table, partial))]
        chart = chart_of(partial)
        if chart is not None and chart.drawn not in known and not problem_of(table, chart):
            known.add(chart.drawn)
            yield chart


def grade(planted: Planted, chart: Chart) -> int:
    """Return how relevant a chart is: 3 where it shows a relation as it should, 2 with another mark or bin, else 0.

    One that has the two columns of a relation otherwise is 1.
    """
    wanted = [each.drawn for each in planted.charts]
    if chart.drawn in wanted:
        return 3
    if any((chart.x, chart.y, chart.aggregate) == (each.x, each.y, each.aggregate) for each in planted.charts):
        return 2
    return int(any({chart.x, chart.y} == {each.x, each.y} for each in planted.charts))
