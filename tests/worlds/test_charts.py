"""Charts of tables: what may be chosen, what is drawn, what can be read, and the world that asks for them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Task
from ferrule.worlds.charts.choosing import Filling
from ferrule.worlds.charts.columns import Plotted, plotted, read_plotted
from ferrule.worlds.charts.drawing import (
    CHART_FEATURES,
    Marks,
    chart_features,
    marks_of,
    problem_of,
    rule_score,
    step_of,
)
from ferrule.worlds.charts.grammar import (
    STOP,
    Chart,
    chart_of,
    chart_text,
    check_picks,
    choices_of,
    legal_choices,
    open_slots,
    read_slot,
)
from ferrule.worlds.charts.making import all_charts, draw_table, grade
from ferrule.worlds.charts.people import DONE, ON, Person, hint_question, hints_in, picked
from ferrule.worlds.charts.world import Charts, table_in, table_task

TRIPS = plotted(
    "trips",
    {
        "city": ["Rome", "Oslo", "Rome", "Oslo", None],
        "day": ["2024-01-05", "2024-01-20", "2024-03-01", "2024-03-02", "2024-05-01"],
        "delay": [4, "6", 8.0, -2, 1],
        "price": [1.0, 2.0, 3.0, 4.0, float("nan")],
    },
)
TWO = plotted("two", {"city": ["a", "b"], "delay": [1, 2]})
AVERAGE = Chart("bar", "city", "delay", True, "average", "city")


def values(table: Plotted, *choices: tuple[str, object], **picks: object) -> list[object]:
    """What may be chosen next."""
    return [value for _, value in legal_choices(table, choices, picks)]


def test_kinds_of_columns() -> None:
    assert {v.name: v.kind for v in TRIPS.variables} == {
        "city": "categorical", "day": "temporal", "delay": "numerical", "price": "numerical",
    }  # fmt: skip
    assert TRIPS.variable("delay").cells == (4.0, 6.0, 8.0, -2.0, 1.0)
    assert TRIPS.variable("price").cells[-1] is None
    assert TRIPS.variable("day").cells[0] == datetime(2024, 1, 5)
    assert plotted("t", {"flag": [True, False], "mixed": [1, "x"], "none": [None, ""]}).named("categorical") == [
        "flag", "mixed", "none",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="did you mean 'delay'"):
        TRIPS.variable("dely")
    with pytest.raises(ValueError, match="differ in length"):
        plotted("t", {"a": [1], "b": [1, 2]})


def test_rows_are_thinned_evenly() -> None:
    """Of five rows at most three: every second; two: every third."""
    assert TRIPS.thinned(3).variable("delay").cells == (4.0, 8.0, 1.0)
    assert TRIPS.thinned(2).variable("delay").cells == (4.0, -2.0)
    assert TRIPS.thinned(9) == TRIPS
    with pytest.raises(ValueError, match="the least is 1"):
        TRIPS.thinned(0)


def test_files(tmp_path: Path) -> None:
    """The same table from CSV, parquet and JSON lines; parquet brings types of its own."""
    (tmp_path / "t.csv").write_text("city,day,delay\nRome,2024-01-05,4\nOslo,,6\n")
    columns = {"city": ["Rome", "Oslo"], "day": [datetime(2024, 1, 5), None], "delay": [4, 6]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    rows = [{"city": "Rome", "day": "2024-01-05", "delay": 4}, {"city": "Oslo", "delay": 6}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tables = [read_plotted(tmp_path / f"t.{end}") for end in ("csv", "parquet", "jsonl")]
    assert tables[0] == tables[1] == tables[2] == plotted("t", columns)
    (tmp_path / "e.csv").write_text("city\n")
    with pytest.raises(ValueError, match="has no rows"):
        read_plotted(tmp_path / "e.csv")


def test_what_may_be_chosen() -> None:
    """Arc takes texts on x; points of delay as they are have no other number to show, so the chart stops."""
    assert values(TWO, ("mark", "arc")) == ["city"]
    assert values(TWO, ("mark", "point")) == ["delay"]
    assert values(TWO, ("mark", "point"), ("x", "delay")) == [False, True]
    raw = (("mark", "point"), ("x", "delay"), ("transform", False))
    assert legal_choices(TWO, raw) == ((STOP, "y"),)
    assert open_slots(raw) == ("y",)
    assert legal_choices(TWO, (*raw, (STOP, "y"))) == ()
    assert chart_of((*raw, (STOP, "y"))) is None


def test_what_may_be_chosen_of_each_slot() -> None:
    assert values(TRIPS) == ["bar", "line", "point", "arc"]
    assert values(TRIPS, ("mark", "line")) == ["city", "day", "delay", "price"]
    assert values(TRIPS, ("mark", "point")) == ["day", "delay", "price"]
    begun = (("mark", "bar"), ("x", "day"), ("transform", True))
    assert values(TRIPS, *begun) == ["count", "sum", "average", None]
    assert values(TRIPS, *begun, ("aggregate", "sum")) == ["delay", "price"]
    assert values(TRIPS, *begun, ("aggregate", "sum"), ("y", "delay")) == ["day"]
    assert values(TRIPS, *begun, ("aggregate", None), ("y", "delay")) == ["day", None]
    assert values(TRIPS, *begun, ("aggregate", None), ("y", "delay"), ("group", None)) == [None, "auto", "date", "day"]
    numbers = (("mark", "bar"), ("x", "delay"), ("transform", True), ("aggregate", "sum"), ("y", "delay"))
    assert values(TRIPS, *numbers, ("group", "delay")) == [None, "auto", "zero"]
    assert values(TRIPS, ("mark", "bar"), ("x", "day")) == [True]


def test_picks_take_the_place_of_the_list() -> None:
    """A pick of what comes after the transformation forces it, also for points."""
    assert values(TRIPS, mark="arc") == ["arc"]
    assert values(TRIPS, ("mark", "point"), ("x", "day"), bin="day") == [True]
    assert values(TRIPS, ("mark", "point"), ("x", "day"), y="price") == [False, True]
    assert read_slot("bin = none") == ("bin", None)
    assert read_slot("x = none") == ("x", "none")
    assert read_slot("x=a=b") == ("x", "a=b")
    for picks, told_so in (
        ({"x": "citi"}, "did you mean 'city'"),
        ({"bin": "wek"}, "bin is 'wek'"),
        ({"z": 1}, "slot"),
    ):
        with pytest.raises(ValueError, match=told_so):
            check_picks(TRIPS, picks)
    check_picks(TRIPS, {"group": None, "bin": None, "transform": True, "y": "price"})
    with pytest.raises(ValueError, match="no choice; write slot=value"):
        read_slot("marc")


def test_what_is_drawn() -> None:
    """Rome 4 and 8, Oslo 6 and -2; the row without a city is left out. By month: two in January, two in March, one in May."""
    assert (marks_of(TRIPS, AVERAGE).x, marks_of(TRIPS, AVERAGE).y) == (("Oslo", "Rome"), (2.0, 6.0))
    month = Chart("line", "day", "delay", True, "sum", "day", "auto")
    assert marks_of(TRIPS, month).x == (datetime(2024, 1, 1), datetime(2024, 3, 1), datetime(2024, 5, 1))
    assert marks_of(TRIPS, month).y == (10.0, 6.0, 1.0)
    week = marks_of(TRIPS, Chart("bar", "day", "delay", True, "count", "day", "day"))
    assert (week.x, week.y) == (("Wed", "Fri", "Sat"), (1.0, 2.0, 2.0))
    sides = marks_of(TRIPS, Chart("bar", "delay", "price", True, "count", "delay", "zero"))
    assert (sides.x, sides.y) == (("0 or less", "above 0"), (1.0, 3.0))
    steps = marks_of(TRIPS, Chart("bar", "delay", "price", True, "count", "delay", "auto"))
    assert step_of(TRIPS.variable("delay")) == 1.0  # -2 to 8 in ten steps
    assert steps.x == (-2.0, 4.0, 6.0, 8.0)
    assert chart_text(AVERAGE) == "bar: x = city, y = average of delay, grouped by city"
    assert Chart("bar", "city", "delay", True, "count", "city").drawn == Chart("bar", "city", "price", True, "count", "city").drawn  # fmt: skip


@pytest.mark.parametrize(
    ("chart", "problem"),
    [
        (AVERAGE, ""),
        (Chart("arc", "city", "delay", True, "average", "city"), "no whole"),
        (Chart("arc", "delay", "price", True, "sum", "delay"), "arc does not show"),
        (Chart("bar", "city", "delay", True, None, "city"), "without saying how"),
        (Chart("bar", "city", "delay"), "several marks at one place"),
        (Chart("line", "city", "delay", True, "sum", "city"), "two points"),
        (Chart("bar", "delay", "delay", True, "sum", "delay"), "against itself"),
        (Chart("bar", "city", "delay", True, "sum", "day"), "not on its x"),
        (Chart("point", "delay", "delay"), "against itself"),
    ],
)
def test_what_cannot_be_read(chart: Chart, problem: str) -> None:
    said = problem_of(TRIPS, chart)
    assert problem in said
    assert bool(problem) == bool(said)
    assert (rule_score(TRIPS, chart) > 0) == (not problem)
    assert Filling(TRIPS).score(choices_of(chart)) == (None if problem else rule_score(TRIPS, chart))


def test_too_many_marks() -> None:
    """41 bars are too many, 40 are not."""
    for rows, said in ((40, ""), (41, "it has 41 marks, too many to read")):
        table = plotted("t", {"name": [f"n{i}" for i in range(rows)], "y": list(range(rows))})
        assert problem_of(table, Chart("bar", "name", "y")) == said


def test_the_fourteen_features() -> None:
    """Two cities, averages 2 and 6. Of delay 4, 6, 8, -2 around 4: between (2 x 4 + 2 x 4) of 56, so sqrt(16 / 56)."""
    row = dict(zip(CHART_FEATURES, chart_features(TRIPS, AVERAGE), strict=True))
    assert len(row) == 14
    assert [row[f"x {name}"] for name in ("kind", "values", "count", "unique", "least", "largest")] == [
        0,
        2,
        2,
        1,
        0,
        0,
    ]
    assert [row[f"y {name}"] for name in ("kind", "values", "count", "unique", "least", "largest")] == [
        1,
        2,
        2,
        1,
        2,
        6,
    ]
    assert (row["correlation"], row["mark"]) == (pytest.approx((16 / 56) ** 0.5), 0)
    line = plotted("l", {"x": [1, 2, 3], "y": [6, 4, 2]})
    assert chart_features(line, Chart("point", "x", "y"))[12:] == (pytest.approx(-1.0), 2.0)


def test_rules_of_thumb() -> None:
    """Two bars are easy to compare; a perfect trend is a perfect line; points without a relation are worth little."""
    assert rule_score(TRIPS, AVERAGE) == 1.0
    line = plotted("l", {"x": [1, 2, 3], "y": [2, 4, 6], "z": [1, -2, 1]})
    assert rule_score(line, Chart("line", "x", "y")) == pytest.approx(1.0)
    assert rule_score(line, Chart("point", "x", "z")) == pytest.approx(0.0)


def test_drawn_tables_hold_what_was_planted() -> None:
    """The chart of a planted relation can be read and is the only grade 3 of it; the seed decides."""
    planted = draw_table(random.Random("t"), 4)
    charts = list(all_charts(planted.table))
    assert planted == draw_table(random.Random("t"), 4)
    assert len({chart.drawn for chart in charts}) == len(charts) > 100
    best = {chart.drawn for chart in charts if grade(planted, chart) == 3}
    assert best == {chart.drawn for chart in planted.charts}
    assert {grade(planted, chart) for chart in charts} == {0, 1, 2, 3}


def test_a_chart_is_put_together_call_by_call() -> None:
    world = Charts()
    (task,) = world.tasks("test", 1, levels=[2])
    session = world.start(task)
    assert session.act(Call("choose", {"slot": "x", "value": "day"})).status == "error"
    first = session.act(Call("choose", {"slot": "mark", "value": "arc"}))
    assert first.text.startswith("next: x = ")
    assert session.final()["problem"] == "it is not finished"
    branch = session.fork()
    assert branch.final() == session.final()
    seen = [world.start(task).act(call) for call in world.demonstrate(task).calls[:1]]
    assert seen[0].status == "ok"
    session = world.start(task)
    ends = [session.act(call) for call in world.demonstrate(task).calls]
    assert ends[-1].terminal
    assert session.final()["chart"] == ends[-1].text == task.meta["state"]["chart"]
    assert session.act(Call("choose", {"slot": "mark", "value": "bar"})).text == "the chart is finished"


def test_tables_come_back_from_tasks() -> None:
    task = table_task(TRIPS)
    assert table_in(task) == TRIPS
    assert table_in(Task("t", "?", meta=json.loads(json.dumps(dict(task.meta))))) == TRIPS
    with pytest.raises(ValueError, match="has no table in its meta"):
        table_in(Task("t", "?"))
    with pytest.raises(ValueError, match="asks for no certain chart"):
        Charts().demonstrate(task)


def test_a_person_follows_hints_to_what_they_want() -> None:
    """Of two wanted charts one weighs more, and its mark is picked; with it in sight they are content."""
    other = Chart("line", "day", "delay", True, "sum", "day", "auto")
    person = Person({AVERAGE: 2.0, other: 1.0})
    hints = [("x", "day"), ("mark", "bar"), ("bin", None)]
    text = hint_question([other], hints)
    assert hints_in(text) == hints

    def say(text: str) -> str:
        return person(Ask((Message("user", text),)), 0)

    assert say(text) == DONE
    assert say(hint_question([], hints)) == "2"
    assert say(hint_question([], [("x", "price")])) == ON
    assert (picked("I take 2.", hints), picked("done", hints), picked("4", hints)) == (1, None, None)
    erring = Person({AVERAGE: 1.0}, errs=1.0)
    assert {erring(Ask((Message("user", hint_question([], hints)),) * n), 0) for n in range(1, 20)} == {"1", "2", "3"}


def test_cells_that_no_chart_has_room_for() -> None:
    """Numbers that are not finite or too large for sums of squares are empty, as are blank texts; words are not."""
    table = plotted("t", {"a": ["1", "nan", " "], "b": ["1", "1e200", "-inf"], "c": ["nan", "Rome", ""]})
    assert [(each.kind, each.cells) for each in table.variables] == [
        ("numerical", (1.0, None, None)), ("numerical", (1.0, None, None)), ("categorical", ("nan", "Rome", None)),
    ]  # fmt: skip


def test_words_for_no_value_are_empty_among_numbers_and_dates() -> None:
    table = plotted("t", {"n": ["1", "N/A", "null"], "d": ["2024-01-02", "-", "NaT"], "c": ["NA", "Rome", "none"]})
    assert [(each.kind, each.cells) for each in table.variables] == [
        ("numerical", (1.0, None, None)), ("temporal", (datetime(2024, 1, 2), None, None)),
        ("categorical", ("NA", "Rome", "none")),
    ]  # fmt: skip


def test_a_table_without_numbers_is_counted() -> None:
    """Four rows of a and one of b; where there are numbers only they are counted, as before."""
    words = plotted("t", {"c": ["a", "b", "a", "a", "a"], "d": ["x"] * 5})
    partial = (("mark", "bar"), ("x", "c"), ("transform", True), ("aggregate", "count"))
    assert legal_choices(words, partial) == (("y", "c"),)
    assert legal_choices(words, (*partial[:3], ("aggregate", "sum"))) == ((STOP, "y"),)
    chart = Chart("bar", "c", "c", True, "count", "c")
    assert marks_of(words, chart) == Marks(("a", "b"), (4.0, 1.0), "categorical")
    assert not problem_of(words, chart)
    assert problem_of(words, replace(chart, aggregate="sum"))
    check_picks(words, {"y": "c"})
    with pytest.raises(ValueError, match=r"y is a column of numbers \(here: none\)"):
        check_picks(words, {"y": "c", "aggregate": "sum"})
    numbers = plotted("t", {"c": ["a", "b"], "n": [1, 2]})
    assert legal_choices(numbers, partial) == (("y", "n"),)
    assert problem_of(numbers, chart) == "'c' has no numbers"


def test_days_of_any_year_are_features() -> None:
    """1970-01-03 is day 2; the first of January of year 1 is 719162 days before 1970."""
    table = plotted("t", {"d": ["0001-01-01", "1970-01-03"], "v": [1, 2]})
    row = dict(zip(CHART_FEATURES, chart_features(table, Chart("point", "d", "v", False)), strict=True))
    assert (row["x least"], row["x largest"]) == (-719162.0, 2.0)


def test_picks_of_columns_that_a_slot_does_not_show_are_refused() -> None:
    with pytest.raises(ValueError, match="y is 'city', which is categorical; y is a column of numbers"):
        check_picks(TRIPS, {"y": "city"})
    with pytest.raises(ValueError, match="x is 'price', which is numerical; the mark arc shows x that is categorical"):
        check_picks(TRIPS, {"mark": "arc", "x": "price"})


def test_names_of_columns_in_files_are_on_one_line(tmp_path: Path) -> None:
    """A name with a line break or blanks around it could not be picked, nor told in a line of hints."""
    path = tmp_path / "t.csv"
    path.write_text('"first\nname", v \nx,1\ny,2\n')
    table = read_plotted(path)
    assert list(table.by_name) == ["first name", "v"]
    check_picks(table, dict([read_slot("x=first name"), read_slot("y = v")]))
    path.write_text("a b,a  b\n1,2\n")
    with pytest.raises(ValueError, match="differ in space alone"):
        read_plotted(path)
