"""The two figures of the page on evidence, for print: every effect against its threshold, and the arenas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ferrule.view.figures import COLOURS, _figure, _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Effect", "arenas_figure", "effect_of", "effects_figure"]

_WIDTH = 7.2
"""Inches: the text of an A4 or letter page."""
# Told apart by shape and filling as well, for print without colours.
_MARKS = {"held": ("o", "third", True), "undecided": ("s", "muted", False), "not held": ("X", "second", True)}


@dataclass(frozen=True)
class Effect:
    """A row of the figure: ends of the interval and the effect as distances from the threshold.

    Distances are positive on the paper's side. ``numbers`` are shown beside the row.
    """

    label: str
    grade: str
    verdict: str
    low: float
    effect: float
    high: float
    numbers: str = ""


def effect_of(claim: Mapping[str, Any], label: str, numbers: str = "", *, margin: bool = False) -> Effect:
    """Return the row of a stored claim; with ``margin`` its threshold is a margin of equivalence around 0."""
    low, high = claim["interval"]
    effect, threshold = claim["effect"], claim["threshold"]
    if margin:
        inside = [threshold - abs(value) for value in (low, effect, high)]
        # An interval that holds 0 comes as far inside as the margin itself.
        most = threshold if low <= 0.0 <= high else max(inside)
        distances = (min(inside), inside[1], most)
    else:
        distances = (low - threshold, effect - threshold, high - threshold)
    return Effect(label, claim["grade"], claim["verdict"], *distances, numbers)


def _row(axes: Axes, place: int, row: Effect) -> None:
    """Draw one row to its own scale: the farthest of its ends is 1 away from the threshold."""
    largest = max(abs(value) for value in (row.low, row.effect, row.high)) or 1.0
    marker, colour, filled = _MARKS[row.verdict]
    axes.hlines(place, row.low / largest, row.high / largest, color=COLOURS["ink"], linewidth=1.6)
    face = COLOURS[colour] if filled else "white"
    axes.plot(
        [row.effect / largest], [place], marker, color=COLOURS[colour], markerfacecolor=face, markersize=6,
        markeredgewidth=1.4,
    )  # fmt: skip
    axes.text(1.12, place, row.numbers, va="center", fontsize=7.5, color=COLOURS["ink"])


def effects_figure(effects: Sequence[Effect]) -> Figure:
    """Draw every effect with its 95 % interval against the threshold of its claim, grade by grade.

    Units differ, so every row has its own scale. Raises ``ValueError`` without rows.
    """
    if not effects:
        raise ValueError("effects_figure needs at least one effect")
    grades = sorted({row.grade for row in effects})
    with _style():
        from matplotlib.lines import Line2D

        figure = _figure(_WIDTH, 0.8 + 0.45 * len(grades) + 0.2 * len(effects))
        counts = [sum(row.grade == grade for row in effects) for grade in grades]
        panels = figure.subplots(len(grades), 1, squeeze=False, height_ratios=[count + 1 for count in counts])[:, 0]
        for grade, axes in zip(grades, panels, strict=True):
            rows = [row for row in effects if row.grade == grade][::-1]
            for place, row in enumerate(rows):
                _row(axes, place, row)
            axes.axvline(0, color=COLOURS["second"], linewidth=1.2, linestyle="--")
            axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=8, color=COLOURS["ink"])
            axes.set_title(f"grade {grade}" if grade else "no grade", fontsize=9.5, pad=4)
            axes.set_xlim(-1.08, 1.08)
            axes.set_ylim(-0.7, len(rows) - 0.3)
            axes.set_xticks([-1, 0, 1], ["", "", ""])
            axes.grid(visible=False)
        panels[-1].set_xticks([-1, 0, 1], ["not as the paper says", "threshold", "as the paper says"], fontsize=8)
        marks = [
            Line2D([], [], linestyle="", marker=marker, color=COLOURS[colour],
                   markerfacecolor=COLOURS[colour] if filled else "white", label=verdict)
            for verdict, (marker, colour, filled) in _MARKS.items()
        ]  # fmt: skip
        figure.legend(handles=marks, loc="outside upper right", ncols=len(marks), fontsize=8)
    return figure


def _differences(axes: Axes, rows: Sequence[tuple[str, Mapping[str, Any]]], title: str) -> None:
    """Draw differences in points with their intervals, the first on top."""
    for place, (_, row) in enumerate(reversed(rows)):
        low, high = (100 * end for end in row["difference_interval"])
        apart = low > 0 or high < 0
        colour = COLOURS["first"] if apart else COLOURS["muted"]
        axes.hlines(place, low, high, color=colour, linewidth=1.8)
        axes.plot([100 * row["difference"]], [place], "o", color=colour, markersize=6,
                  markerfacecolor=colour if apart else "white", markeredgewidth=1.4)  # fmt: skip
    axes.axvline(0, color=COLOURS["second"], linewidth=1.2, linestyle="--")
    axes.set_yticks(range(len(rows)), [label for label, _ in reversed(rows)], fontsize=8, color=COLOURS["ink"])
    axes.set_title(title, fontsize=9.5)
    axes.set_xlabel("points of success", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylim(-0.7, len(rows) - 0.3)


def arenas_figure(training: Mapping[str, Any], agents: Mapping[str, Any]) -> Figure:
    """Draw both arenas: how far recipes, and agents on every world, are from what they are compared with.

    Filled points are told apart from it by their interval over seeds.
    """
    recipes = [(row["recipe"], row) for row in training["rows"] if row["difference_interval"]]
    players = [(f"{row['agent']}, {row['world']}", row) for row in agents["rows"] if row["difference_interval"]]
    with _style():
        figure = _figure(_WIDTH, 0.9 + 0.26 * max(len(recipes), len(players)))
        left, right = figure.subplots(1, 2)
        _differences(left, recipes, f"training, against {training['about']['against']}")
        _differences(right, players, f"agents, against {agents['about']['against']}")
    return figure
