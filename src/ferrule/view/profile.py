"""The figure of an arena with a profile: every recipe against the first one, column by column."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ferrule.view.figures import COLOURS, _figure, _style, write_png

__all__ = ["profile_figure"]


def profile_figure(result: Mapping[str, Any], path: str | Path) -> Path:
    """Draw differences to the first recipe with their intervals: a panel per column, a line per recipe.

    What is told apart from 0 is filled, so that the picture reads in grey.
    """
    columns = [*(column["name"] for column in result["about"]["columns"]), "all"]
    rows = [row for row in result["rows"] if row["columns"]["all"]["difference"] is not None]
    with _style():
        figure = _figure(2.4 + 1.5 * len(columns), 1.3 + 0.26 * len(rows))
        panels = [figure.add_subplot(1, len(columns), place + 1) for place in range(len(columns))]
        for panel, column in zip(panels, columns, strict=True):
            panel.axvline(0, color=COLOURS["muted"], linewidth=1)
            for place, row in enumerate(reversed(rows)):
                found = row["columns"][column]
                low, high = found["difference_interval"] or (found["difference"],) * 2
                clear = found["difference_interval"] is not None and (low > 0 or high < 0)
                panel.hlines(place, 100 * low, 100 * high, color=COLOURS["first"], linewidth=1.4)
                panel.plot(
                    [100 * found["difference"]], [place], "o", color=COLOURS["first"], markersize=5,
                    markerfacecolor=COLOURS["first"] if clear else "white",
                )  # fmt: skip
            panel.set_title(column)
            panel.set_ylim(-0.7, len(rows) - 0.3)
            panel.set_yticks(range(len(rows)), [row["recipe"] for row in reversed(rows)] if panel is panels[0] else [])
            panel.set_xlabel("points")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return write_png(figure, path, dpi=200)
