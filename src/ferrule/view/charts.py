"""Charts as Vega-Lite, as pictures, and on a page that needs neither network nor scripts."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ferrule.view.episodes import visible
from ferrule.view.report import templates
from ferrule.worlds.charts.columns import Plotted
from ferrule.worlds.charts.drawing import marks_of, step_of, unit_of
from ferrule.worlds.charts.grammar import Chart, SlotChoice, chart_text, value_text

__all__ = ["svg_of", "vega_lite", "write_charts"]

_NEEDS = 'drawing charts needs {}: pip install "ferrule[charts]"'
_POINTS = 2_000
"""The most rows that points are drawn of; of more, evenly spaced ones are."""
_MOST_ROWS = 10_000
"""The most rows that a specification holds of a chart that puts rows together."""
_UNITS = {"year": "year", "month": "yearmonth", "date": "yearmonthdate"}
_TYPES = {"categorical": "N", "numerical": "Q", "temporal": "T"}


def vega_lite(table: Plotted, chart: Chart, *, width: int = 340, height: int = 220) -> dict[str, Any]:
    """Return a chart as a Vega-Lite specification with its data, checked against the schema by Altair.

    Columns are the fields ``x`` and ``y`` and keep their names as titles. Bins and aggregates are Vega-Lite's own;
    of more than 10,000 rows, and by days of the week, which readers aloud could not name otherwise, the specification
    holds what they come to in place of the rows. ``ImportError`` names the extra where altair is missing.
    """
    try:
        import altair as alt
    except ImportError as error:
        raise ImportError(_NEEDS.format("altair")) from error
    aggregate = chart.aggregate if chart.transform else None
    y_title = "count" if aggregate == "count" else f"{aggregate} of {chart.y}" if aggregate else chart.y
    rows, done = _rows(table, chart), False
    if aggregate is not None and (len(rows) > _MOST_ROWS or chart.bin == "day"):
        rows, done = _added_up(table, chart), True
    y = {"count": "count()", None: "y:Q"}.get(None if done else aggregate, f"{aggregate}(y):Q")
    drawn = alt.Chart(alt.Data(values=rows))  # type: ignore[no-untyped-call]
    if chart.transform and chart.bin == "zero" and not done:
        drawn = drawn.transform_calculate(x="datum.x > 0 ? 'above 0' : '0 or less'")
    if chart.mark == "arc":
        encoded = {"theta": alt.Theta(y, title=_title(y_title)), "color": alt.Color("x:N", title=_title(chart.x))}
    else:
        encoded = {"x": alt.X(**_place(table, chart), title=_title(chart.x)), "y": alt.Y(y, title=_title(y_title))}
    marked = {"bar": drawn.mark_bar, "line": drawn.mark_line, "point": drawn.mark_point, "arc": drawn.mark_arc}
    about = {"description": visible(chart_text(chart)), "width": width, "height": height}
    specification: dict[str, Any] = marked[chart.mark]().encode(**encoded).properties(**about).to_dict()
    return specification


def _title(text: str) -> str:
    """Return a title on one line, as Vega-Lite puts titles into expressions, where a line break is an error."""
    return visible(" ".join(text.split()))


def _place(table: Plotted, chart: Chart) -> dict[str, Any]:
    """Return how x is encoded: its type, with a bin or a unit of time."""
    import altair as alt

    variable = table.variable(chart.x)
    how = chart.bin if chart.transform else None
    if variable.kind == "temporal" and how == "day":
        return {"shorthand": "x:O", "sort": None}
    if variable.kind == "temporal" and how is not None:
        return {"shorthand": "x:T", "timeUnit": _UNITS["date" if how == "date" else unit_of(variable)]}
    if variable.kind == "numerical" and how == "auto":
        return {"shorthand": "x:Q", "bin": alt.Bin(step=step_of(variable))}
    if variable.kind == "numerical" and (how == "zero" or chart.mark == "bar"):
        return {"shorthand": "x:O"}
    return {"shorthand": f"x:{_TYPES[variable.kind]}"}


def _rows(table: Plotted, chart: Chart) -> list[dict[str, Any]]:
    """Return the rows that a chart is drawn of, without those that have an empty cell in it."""
    cells = zip(table.variable(chart.x).cells, table.variable(chart.y).cells, strict=True)
    rows = [{"x": _plain(x), "y": _plain(y)} for x, y in cells if x is not None and y is not None]
    return rows[:: 1 + (len(rows) - 1) // _POINTS] if chart.mark == "point" and chart.aggregate is None else rows


def _added_up(table: Plotted, chart: Chart) -> list[dict[str, Any]]:
    """Return the marks of a chart that puts rows together as rows of their own, one each."""
    marks = marks_of(table, chart)
    # A step begins at a multiple of its width, which rounding may put into the step before: its middle is told.
    middle = step_of(table.variable(chart.x)) / 2 if chart.bin == "auto" and marks.kind == "numerical" else 0
    xs = [x + middle if isinstance(x, float) else _plain(x) for x in marks.x]
    return [{"x": x, "y": y} for x, y in zip(xs, marks.y, strict=True)]


def _plain(cell: Any) -> Any:
    return cell.isoformat() if isinstance(cell, datetime) else visible(cell) if isinstance(cell, str) else cell


def svg_of(specification: Mapping[str, Any]) -> str:
    """Return a Vega-Lite specification drawn as SVG (``ImportError`` naming the extra where vl-convert is missing)."""
    try:
        import vl_convert
    except ImportError as error:
        raise ImportError(_NEEDS.format("vl-convert-python")) from error
    return str(vl_convert.vegalite_to_svg(dict(specification), allowed_base_urls=[]))


def write_charts(
    table: Plotted, charts: Sequence[tuple[Chart, float]], hints: Sequence[SlotChoice], path: str | Path, *,
    picks: Mapping[str, Any] = {}, command: str = "",
) -> Path:  # fmt: skip
    """Write a page of charts with their scores, and of hints, each with the ``command`` that follows it.

    Everything is in the page: pictures are SVG, and each chart has its Vega-Lite text to go on with.
    """
    shown = []
    for chart, score in charts:
        specification = vega_lite(table, chart)
        picture = base64.b64encode(svg_of(specification).encode()).decode()
        source = json.dumps(specification, indent=1, ensure_ascii=False)
        shown.append(
            {"told": visible(chart_text(chart)), "score": f"{score:.2f}", "picture": picture, "source": source}
        )
    page = (
        templates()
        .get_template("charts.html.j2")
        .render(
            name=visible(table.name),
            count=len(table.variables[0].cells),
            columns=[(visible(variable.name), variable.kind) for variable in table.variables],
            charts=shown,
            hints=[(visible(_said(hint)), visible(f"{command} --pick {shlex.quote(_said(hint))}")) for hint in hints],
            picks=[visible(_said(pick)) for pick in picks.items()],
            command=command,
        )
    )
    target = Path(path)
    target.write_text(page, encoding="utf-8")
    return target


def _said(choice: SlotChoice) -> str:
    return f"{choice[0]}={value_text(choice[1])}"
