"""The example tools: each does what it says, offline, and what an episode writes is its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ferrule.core.records import Call, Task
from ferrule.tools.pack import PACK, pack
from ferrule.tools.pack.lookups import shortest
from ferrule.tools.pack.reckoning import molar_mass
from ferrule.tools.sources import tool_source
from ferrule.worlds.session import Toolbox, ToolSession


def _said(name: str, arguments: dict[str, Any], *, data: Path | None = None) -> str:
    session = Toolbox(pack([name], data=data)).start(Task("t", "p"))
    observation = session.act(Call(name, arguments))
    assert observation.status == "ok", observation.text
    return observation.text


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "calculator": ({"expression": "6 / 3"}, "2"),
    "calendar": ({"day": "2024-02-28", "add_days": 2}, '{"date":"2024-03-01","weekday":"Friday"}'),
    "units": ({"value": 212, "from_unit": "F", "to_unit": "C"}, "100.0"),
    "chemistry": ({"formula": "Ca(OH)2"}, "74.092 g/mol"),  # 40.078 + 2 * (15.999 + 1.008)
    "table": (
        {"csv_text": "city,n\nRome,2\nOslo,3\nRome,4", "column": "n", "operation": "sum", "where": "city=Rome"},
        "6.0",
    ),
    "chart": ({"labels": ["a", "b"], "values": [1, 3]}, "a bar chart of 2 values, largest b with 3"),
    "slides": ({"title": "One", "points": ["x"]}, "# One\n- x"),
    "files": ({"action": "write", "name": "n", "text": "abc"}, "n has 3 characters"),
    "shop": ({"action": "add", "product": "pen", "count": 2}, '{"cart":{"pen":2},"price":3.0}'),
    "translate": ({"text": "Good night whale", "to": "de"}, "gut Nacht [whale]"),
    "weather": ({"city": "oslo", "day": "2026-05-01"}, '{"temperature_c":'),
    "stocks": ({"symbol": "BRIX", "day": "2026-05-04"}, '{"2026-05-04":'),
    "route": ({"start": "Arden", "end": "Dunlow"}, '{"kilometres":28.0,"places":["Arden","Birk","Corva","Dunlow"]}'),
    "knowledge": ({"entity": "Danube", "relation": "flows into"}, '["Danube | flows into | Black Sea"]'),
    "search": ({"query": "acorn"}, "[1] Oak"),
    "sql": ({"query": "SELECT name FROM employee WHERE salary > 5000"}, "name\nCara"),
    "recipes": ({"ingredients": ["eggs", "butter", "salt"]}, '{"omelette":'),
    "movies": ({"director": "kurosawa", "since": 1952}, '[{"title":"Seven Samurai"'),
}


def test_there_are_eighteen_and_each_has_a_case() -> None:
    assert len(PACK) == 18
    assert set(CASES) == set(PACK) == {tool.name for tool in pack()}


@pytest.mark.parametrize("name", CASES)
def test_each_tool_answers(name: str) -> None:
    arguments, begins = CASES[name]
    assert _said(name, arguments).startswith(begins)


def test_what_an_episode_writes_is_its_own_and_tools_do_not_share_it() -> None:
    source = tool_source("pack:files,shop,slides")
    one, other = (ToolSession(Task("t", "p"), source.build, source.start()) for _ in range(2))
    one.act(Call("files", {"action": "write", "name": "n", "text": "abc"}))
    one.act(Call("shop", {"action": "add", "product": "pen"}))
    assert one.act(Call("files", {"action": "list"})).text == "n (3 characters)"
    assert json.loads(one.act(Call("shop", {"action": "cart"})).text)["cart"] == {"pen": 1}
    assert other.act(Call("files", {"action": "list"})).text == "no files"
    assert one.act(Call("slides", {"title": "A", "points": []})).text == "# A"
    assert one.act(Call("slides", {"title": "B", "points": []})).text == "# A\n\n---\n\n# B"


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("units", {"value": 1, "from_unit": "km", "to_unit": "kg"}, "km is a unit of length, kg one of mass"),
        ("calendar", {"day": "28.2.2024"}, "write it as 2024-02-28"),
        ("chemistry", {"formula": "Xx2"}, "unknown element 'Xx'"),
        ("shop", {"action": "add", "product": "desk lamp", "count": 9}, "possible are 0 to 3"),
        ("shop", {"action": "buy"}, "the cart is empty"),
        ("weather", {"city": "Osla"}, "did you mean 'Oslo'"),
        ("route", {"start": "Arden", "end": "Gorin"}, "no way leads from Arden to Gorin"),
        ("table", {"csv_text": "a\nx", "column": "a", "operation": "mean"}, "holds more than numbers"),
        ("chart", {"labels": ["a"], "values": []}, "1 labels for 0 values"),
        ("chart", {"labels": ["a"], "values": [float("nan")]}, "should be finite numbers"),
        ("chart", {"labels": ["a", "b"], "values": [1e308, -1e308]}, "should be finite numbers"),
        ("units", {"value": 1e308, "from_unit": "km", "to_unit": "mm"}, "no finite number"),
        ("table", {"csv_text": "a\n1e308\n1e308", "column": "a", "operation": "sum"}, "no finite number"),
        ("table", {"csv_text": "a,b\n1,2,3", "column": "c", "operation": "sum"}, "no column 'c'"),
        ("calendar", {"day": "9999-12-31", "add_days": 1}, "outside the years 1 to 9999"),
        ("chemistry", {"formula": "H9999999999"}, "is no formula"),
        ("shop", {"action": "add", "product": "pen", "count": 0}, "count is 0; the least is 1"),
    ],
)  # fmt: skip
def test_mistakes_are_said(name: str, arguments: dict[str, Any], problem: str) -> None:
    observation = Toolbox(pack([name])).start(Task("t", "p")).act(Call(name, arguments))
    assert observation.status == "error"
    assert problem in observation.text


def test_formulas_and_ways() -> None:
    masses = {"H": 1.0, "O": 16.0, "C": 12.0}
    assert molar_mass("C6H12O6", masses) == 180.0
    assert molar_mass("C(H(O2)2)2", masses) == 12 + 2 * (1 + 2 * 32)
    for wrong in ("", "(H", "H)", "h2", "2H", "()", "H0"):
        with pytest.raises(ValueError, match=r"formula|closes more|unknown element"):
            molar_mass(wrong, masses)
    roads = [["a", "b", 1], ["b", "c", 1], ["a", "c", 3]]
    assert shortest(roads, "a", "c") == (2.0, ["a", "b", "c"])
    assert shortest(roads, "a", "a") == (0.0, ["a"])


def test_files_of_ones_own_take_the_place_of_those_that_come_along(tmp_path: Path) -> None:
    (tmp_path / "weather.json").write_text('{"Bern": {"2026-01-01": {"sky": "fog"}}}')
    assert _said("weather", {"city": "Bern"}, data=tmp_path) == '{"2026-01-01":{"sky":"fog"}}'
    assert _said("translate", {"text": "moon", "to": "fr"}, data=tmp_path) == "lune"
    with pytest.raises(ValueError, match="the pack has no tool 'unit'; did you mean 'units'"):
        pack(["unit"])
    with pytest.raises(FileNotFoundError, match="no folder"):
        pack(data=tmp_path / "none")


def test_marks_cases_and_spaces_do_not_matter(tmp_path: Path) -> None:
    assert _said("translate", {"text": "Good. Night, (moon)!", "to": "FR"}) == "bon nuit lune"
    assert _said("table", {"csv_text": "a, b\n1, 2", "column": "b", "operation": "sum"}) == "2.0"
    assert _said("recipes", {"ingredients": ["Eggs", " butter", "salt"]}).startswith('{"omelette":')
    (tmp_path / "recipes.json").write_text('{"Tea": {"ingredients": ["Water"], "minutes": 5, "steps": []}}')
    assert _said("recipes", {"ingredients": ["water"]}, data=tmp_path).startswith('{"Tea":')


def test_a_database_of_ones_own_is_checked(tmp_path: Path) -> None:
    (tmp_path / "database.json").write_text('{"a\\"b": [{"x\\"y": 1}]}')
    assert _said("sql", {"query": "SELECT * FROM sqlite_master"}, data=tmp_path).startswith("type | name")
    tables = {"[]": "needs rows", '[{"a": 1}, {"b": 2}]': "same columns", '[{"a": [1]}]': "holds lists or objects"}
    for rows, problem in tables.items():
        (tmp_path / "database.json").write_text(f'{{"t": {rows}}}')
        with pytest.raises(ValueError, match=problem):
            pack(["sql"], data=tmp_path)
