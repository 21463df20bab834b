"""Charts as Vega-Lite and on a page: the marks that are drawn are those that were scored, and names stay text."""

from __future__ import annotations

import base64
import random
import re
import sys
from pathlib import Path

import pytest

from ferrule.view.charts import svg_of, vega_lite, write_charts
from ferrule.worlds.charts.columns import plotted
from ferrule.worlds.charts.drawing import _WEEK, marks_of
from ferrule.worlds.charts.grammar import Chart
from ferrule.worlds.charts.making import all_charts, draw_table

PLANTED = draw_table(random.Random("view"), 4)
TABLE = PLANTED.table
HOSTILE = "</title><script>document.title='owned'</script>"
MARKS = {"bar": "bar", "arc": "arc mark", "point": "point", "line": "line mark"}


def kinds() -> list[Chart]:
    """One chart for every mark with every kind of x, bin and aggregate."""
    found: dict[tuple[object, ...], Chart] = {}
    for chart in all_charts(TABLE):
        found.setdefault((chart.mark, TABLE.variable(chart.x).kind, chart.bin, chart.aggregate), chart)
    return list(found.values())


def test_as_many_marks_are_drawn_as_were_scored() -> None:
    """Bins and aggregates of Vega-Lite agree with what charts are rated by; a line is one mark."""
    charts = kinds()
    assert len(charts) > 25
    for chart in random.Random(3).sample(charts, 16):
        drawn = svg_of(vega_lite(TABLE, chart)).count(f'aria-roledescription="{MARKS[chart.mark]}"')
        assert drawn == (1 if chart.mark == "line" else len(marks_of(TABLE, chart).x)), chart


def test_values_are_those_that_were_scored() -> None:
    table = plotted("t", {"city": ["Rome", "Oslo", "Rome"], "delay": [4, 5, 8]})
    svg = svg_of(vega_lite(table, Chart("bar", "city", "delay", True, "average", "city")))
    assert dict(re.findall(r'aria-label="city: (\w+); average of delay: (\d+)"', svg)) == {"Oslo": "5", "Rome": "6"}


def test_many_rows_are_added_up_to_the_same_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told of every mark, and where a line goes, is the same as by the aggregates of Vega-Lite."""

    def marks(chart: Chart) -> tuple[list[str], list[str]]:
        svg = svg_of(vega_lite(TABLE, chart))
        lines = re.findall(r'aria-roledescription="line mark"[^>]* d="([^"]*)"', svg)
        return sorted(re.findall(r'aria-label="([^"]*)" role="graphics-symbol"', svg)), lines

    together = {(chart.bin, chart.mark): chart for chart in kinds() if chart.aggregate is not None}
    plain = {key: marks(chart) for key, chart in together.items()}
    assert len(plain) > 10
    monkeypatch.setattr("ferrule.view.charts._MOST_ROWS", 0)
    for key, chart in together.items():
        assert len(vega_lite(TABLE, chart)["data"]["values"]) == len(marks_of(TABLE, chart).x)
        assert marks(chart) == plain[key], chart
        assert any(plain[key])
    days = next(labels for (how, mark), (labels, _) in plain.items() if (how, mark) == ("day", "bar"))
    assert {label.partition(";")[0].removeprefix("day: ") for label in days} <= set(_WEEK)


def test_a_large_table_makes_no_large_page() -> None:
    table = plotted("t", {"x": list(range(20_000)), "c": ["a", "b"] * 10_000})
    values = vega_lite(table, Chart("bar", "c", "x", True, "sum", "c"))["data"]["values"]
    assert values == [{"x": "a", "y": 99_990_000}, {"x": "b", "y": 100_000_000}]  # 2 (0 + ... + 9,999), and 10,000 more


def test_names_of_columns_may_be_anything() -> None:
    """Dots and brackets mean something in Vega-Lite, underscores did in the published code."""
    table = plotted("t", {"a.b[0]_c": ["Rome", "Oslo"], HOSTILE: [4, 6]})
    svg = svg_of(vega_lite(table, Chart("bar", "a.b[0]_c", HOSTILE)))
    assert "a.b[0]_c: Rome; " in svg
    assert "<script" not in svg


def test_many_points_are_thinned() -> None:
    table = plotted("t", {"x": list(range(5000)), "y": list(range(5000))})
    rows = vega_lite(table, Chart("point", "x", "y"))["data"]["values"]
    assert len(rows) == 1667  # every third
    assert len(vega_lite(table, Chart("bar", "x", "y", True, "sum", "x", "auto"))["data"]["values"]) == 5000


def test_a_page(tmp_path: Path) -> None:
    """Pictures are in the page, hints come with the command that follows them, and nothing becomes markup."""
    table = plotted(HOSTILE, {HOSTILE: ["Rome", "Oslo's"], "delay": [4, 6]})
    charts = [(Chart("bar", HOSTILE, "delay"), 2.5)]
    hints = [("x", "it's"), ("bin", None)]
    path = write_charts(table, charts, hints, tmp_path / "p.html", picks={"mark": "bar"}, command="ferrule charts t")
    page = path.read_text()
    assert "<script" not in page
    assert "ferrule charts t --pick &#39;x=it&#39;&#34;&#39;&#34;&#39;s&#39;" in page
    assert "Picked: mark=bar" in page
    (picture,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert base64.b64decode(picture).startswith(b"<svg")
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    empty = write_charts(table, [], [], tmp_path / "e.html", picks={"mark": "arc"}).read_text()
    assert "No chart of this table can be read with these picks." in empty


@pytest.mark.parametrize("missing", ["altair", "vl_convert"])
def test_the_extra_is_named(missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r'needs .*: pip install "ferrule\[charts\]"'):
        write_charts(TABLE, [(PLANTED.charts[0], 1.0)], [], tmp_path / "p.html")


@pytest.mark.parametrize("mark", ["bar", "arc"])
def test_names_with_line_breaks_are_drawn(mark: str) -> None:
    """Vega-Lite puts titles into expressions, in which a line break is an error; titles are on one line."""
    table = plotted("t", {"na\nme": ["x\ny", 'x,"q"', "z"], "v\r\n'w": [1, 2, 4]})
    assert "na me" in svg_of(vega_lite(table, Chart(mark, "na\nme", "v\r\n'w")))
