"""The figure of an arena: success after training, pass@k, and the way there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.view.figures import COLOURS, _figure, _percent, _style, smooth, write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["arena_figure"]

_GREY = 7
"""The colour of the untrained model, and so of nothing else."""


def _colour(place: int) -> Any:
    from matplotlib import colormaps

    apart = [i for i in range(10) if i != _GREY]
    return colormaps["tab10"](apart[place % len(apart)])


def _bars(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Success of each recipe with its interval over seeds."""
    for place, row in enumerate(reversed(rows)):
        interval = row["success_interval"]
        if interval is not None:
            axes.hlines(place, interval[0], interval[1], color=COLOURS["muted"], linewidth=2.5)
        axes.plot([row["success"]], [place], "o", color=COLOURS["first"], markersize=7)
    axes.set_yticks(range(len(rows)), [row["recipe"] for row in reversed(rows)])
    axes.set_title("success, held-out tasks")
    axes.xaxis.set_major_formatter(lambda value, place: f"{100 * value:.0f}%")


def arena_figure(result: Mapping[str, Any], path: str | Path) -> Path:
    """Draw the result of an arena: one point per recipe, pass@k, and success against generated tokens."""
    rows = result["rows"]
    trained = [
        row["recipe"] for row in rows if any(key.rpartition("/")[0] == row["recipe"] for key in result["curves"])
    ]
    with _style():
        figure = _figure(13, 4.2)
        bars, passes, progress = (figure.add_subplot(1, 3, place) for place in (1, 2, 3))
        _bars(bars, rows)
        for place, row in enumerate(rows):
            ks = [int(k) for k in row["pass_at"]]
            colour = COLOURS["muted"] if row["recipe"] not in trained else _colour(place)
            passes.plot(ks, list(row["pass_at"].values()), "o-", color=colour, markersize=4, label=row["recipe"])
        passes.set_title("pass@k")
        passes.set_xscale("log", base=2)
        every = sorted({int(k) for row in rows for k in row["pass_at"]})
        passes.set_xticks(every, [str(k) for k in every])
        passes.set_xticks([], minor=True)
        _percent(passes)
        passes.legend(fontsize=8)
        for name in trained:
            curves = [curve for key, curve in result["curves"].items() if key.rpartition("/")[0] == name and curve]
            if not curves:
                continue
            place = next(i for i, row in enumerate(rows) if row["recipe"] == name)
            grid = np.linspace(0, max(curve[-1][0] for curve in curves), 60)
            mean = np.mean([np.interp(grid, *np.asarray(curve).T) for curve in curves], axis=0)
            progress.plot(grid, smooth(mean.tolist(), 5), color=_colour(place), linewidth=1.8)
        progress.set_title("success by generated tokens")
        progress.xaxis.set_major_formatter(lambda value, place: f"{value / 1000:.0f}k")
        _percent(progress)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return write_png(figure, path, dpi=120)
