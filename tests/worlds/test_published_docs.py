"""Suites of published rows: optima (NL4OPT, OptiBench), the tests of STE, and RestBench under DRAFT's documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ferrule.core.records import Call, Trajectory
from ferrule.rewards.outcome import outcome
from ferrule.worlds.named import world
from ferrule.worlds.suites.declared import amount, program_declared
from ferrule.worlds.suites.draft_docs import documents
from ferrule.worlds.suites.ste import described


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)))


def test_optima_are_judged_within_a_tenth_and_have_a_solver(tmp_path: Path) -> None:
    row = {"task_id": "F000", "description": "Make at most 3 lamps at $2 each. What is the most?", "ground_truth": 6.0}
    _lines(tmp_path / "optimisation" / "nl4opt_part1.jsonl", [row])
    table = {
        "question": "How many?",
        "index": 2,
        "type": "nonlinear-table",
        "results": {"x": "4.0", "Total": "225.0000"},
    }
    _lines(tmp_path / "optimisation" / "optibench_part1.jsonl", [table])
    linear, general = (world(name, data=tmp_path) for name in ("nl4opt", "optibench"))
    (task,) = linear.tasks("test", 9)
    assert (task.id, task.answer) == ("nl4opt/F000", "6.0")
    session = linear.start(task)
    assert [tool.name for tool in session.tools] == ["solve", "python"]
    program = {"goal": "maximise", "objective": {"lamps": 2}, "constraints": [], "upper": {"lamps": 3}}
    answer = session.act(Call("solve", program)).text
    assert answer == "Optimal value: 6\nlamps = 3"
    session.close()
    first = answer.splitlines()[0]
    assert outcome(task, [Trajectory(task, (), first)])[0].value == 1.0
    (other,) = general.tasks("test", 9, levels=[4])
    assert (other.answer, other.meta["level"], other.meta["results"]) == ("225.0000", 4, table["results"])


def test_rows_of_optima_that_do_not_fit_are_named(tmp_path: Path) -> None:
    for row, problem in (
        ({"description": "x"}, "no field 'ground_truth'"),
        ({"description": "x", "ground_truth": "many"}, "'many', not a number"),
    ):
        _lines(tmp_path / "rows.jsonl", [row])
        with pytest.raises(ValueError, match=problem):
            world("nl4opt", data=tmp_path / "rows.jsonl")
    _lines(tmp_path / "rows.jsonl", [{"question": "x", "type": "linear", "results": {"a": "1"}}])
    with pytest.raises(ValueError, match="unknown type 'linear'; did you mean"):
        world("optibench", data=tmp_path / "rows.jsonl")
    with pytest.raises(FileNotFoundError, match=r"git clone https://github.com/Minw913/AlphaOPT"):
        world("nl4opt", data=tmp_path)


PLAIN = (
    "API_name: add_date\nDescription: Add days to a date.. Your input should be a json (args json schema): "
    '{{"date" : string, "days" : integer, }} The Action to trigger this API should be add_date.'
)
DOCUMENT = {
    "description": "Get giveaways by type", "parent_tool_name": "GamerPower", "parent_tool_description": "Giveaways",
    "required_parameters": [{"name": "type", "type": "STRING", "description": "the type", "default": "game"}],
    "optional_parameters": [{"name": "most", "type": "NUMBER", "description": "", "default": ""}],
}  # fmt: skip
LISTED = f"API_name: GamerPower%%Live giveaways\nDescription: {json.dumps(DOCUMENT)}"


def test_descriptions_of_ste_become_schemas() -> None:
    date, giveaways = described(f"{PLAIN}\n{LISTED}")
    assert date["parameters"]["properties"] == {"date": {"type": "string"}, "days": {"type": "integer"}}
    assert (date["name"], date["description"]) == ("add_date", "Add days to a date..")
    assert giveaways["name"] == "GamerPower_Live_giveaways"
    assert giveaways["parameters"]["required"] == ["type"]
    assert giveaways["parameters"]["properties"]["most"] == {"type": "number", "description": ""}


@pytest.mark.parametrize(
    ("calls", "wellformed", "matched", "right"),
    [
        ([Call("GamerPower_Live_giveaways", {"type": " BETA "})], True, True, True),
        ([Call("GamerPower_Live_giveaways", {"type": "beta", "most": 3})], True, True, True),  # extra keys do not count
        ([Call("GamerPower_Live_giveaways", {"type": "game"})], True, True, False),
        ([Call("GamerPower_Live_giveaways", {})], True, True, False),
        ([Call("giveaways", {"type": "beta"})], True, False, False),
        ([Call("", problem="not JSON")], False, False, False),
        ([], False, False, False),  # answering without a call is not well-formed
    ],
)
def test_calls_of_ste_are_judged_in_three_steps(
    tmp_path: Path, calls: list[Call], wellformed: bool, matched: bool, right: bool
) -> None:
    api = "GamerPower%%Live giveaways"
    row = {
        "api": api, "query": "Any beta keys?", "API_name_list": [api], "api_descriptions": LISTED, "action": api,
        "action_input": '{"type": "beta"}',
    }  # fmt: skip
    _lines(tmp_path / "ste" / "tool_test_even.jsonl", [row])
    home = world("ste", data=tmp_path)
    (task,) = home.tasks("test", 9)
    session = home.start(task)
    for call in calls:
        assert session.act(call).terminal
    said = session.final()
    assert (said["wellformed"], said["matched"], said["right"]) == (wellformed, matched, right)
    (shown,) = home.demonstrate(task).calls  # type: ignore[attr-defined]
    again = home.start(task)
    again.act(shown)
    assert again.final()["right"]


def test_tools_say_what_the_documents_of_a_version_say(tmp_path: Path) -> None:
    spec = {"paths": {path: {"get": {"responses": {"200": {}}}} for path in ("/film", "/star", "/shop")}}
    rows = [{"query": "a", "solution": ["GET /film"]}, {"query": "b", "solution": ["GET /film", "GET /shop"]}]
    for name, content in (("tmdb_oas", spec), ("tmdb", rows)):
        (tmp_path / "restbench").mkdir(exist_ok=True)
        (tmp_path / "restbench" / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "draft_docs").mkdir()
    for version in ("initial", "draft"):
        tools = {
            str(i): {"tool_name": f"GET_{name}", "description": f"{version} {name}"}
            for i, name in enumerate(("film", "star"))
        }
        (tmp_path / "draft_docs" / f"tmdb_{version}.json").write_text(json.dumps(tools))
    home = world("draft_docs:tmdb_draft", data=tmp_path)
    (task,) = home.tasks("test", 9)  # the other task needs an endpoint without a document
    session = home.start(task)
    assert {tool.name: tool.description for tool in session.tools} == {
        "get_film": "draft film",
        "get_star": "draft star",
    }
    session.act(Call("get_film"))
    assert session.final()["right"]
    assert [tool.description for tool in documents("tmdb", data=tmp_path)] == ["initial film", "initial star"]
    with pytest.raises(ValueError, match="no documents 'drafted'; did you mean 'draft'"):
        documents("tmdb", "drafted", data=tmp_path)


def test_documents_of_toolbench_name_each_function(tmp_path: Path) -> None:
    guide = {
        "name": "make text", "description": "Makes text.",
        "required_parameters": [{"name": "length", "type": "NUMBER", "description": "how long"}], "optional_parameters": [],
    }  # fmt: skip
    row = {"tool_name": "Text API", "tool_description": "Texts", "tool_guidelines": {"make text": guide}}
    (tmp_path / "draft_docs").mkdir()
    (tmp_path / "draft_docs" / "toolbench_initial.json").write_text(json.dumps({"1": row}))
    (tool,) = documents("toolbench", data=tmp_path)
    assert (tool.name, tool.description, tool.parameters["required"]) == (
        "Text_API_make_text",
        "Makes text.",
        ["length"],
    )
    assert tool.parameters["properties"]["length"] == {"type": "number", "description": "how long"}


DECLARED: dict[str, Any] = {
    "id": "7",
    "document": "Rickshaws take 50 coconuts for $10, ox carts 30 for $8. There are $200, and at most as many rickshaws.",
    "vars": ["rickshaws", "ox carts"],
    "obj_declaration": {"type": "objective", "direction": "maximize", "terms": {"rickshaw": "50", "ox cart": "30"}},
    "const_declarations": [
        {"type": "linear", "limit": "200", "terms": {"rickshaws": "10", "ox carts": "8"}, "operator": "LESS_OR_EQUAL"},
        {"type": "xy", "x_var": "rickshaws", "y_var": "ox carts", "operator": "LESS_OR_EQUAL"},
    ],
}


def test_declared_problems_have_their_program_as_reference_solution(tmp_path: Path) -> None:
    """With r = c both cost 18 r <= 200, so r = c = 100/9, which carries 80 * 100/9 = 8000/9 coconuts."""
    endless = {**DECLARED, "id": "8", "const_declarations": list(DECLARED["const_declarations"])[1:]}
    _lines(tmp_path / "optimisation" / "nl4opt_dev_declarations.jsonl", [DECLARED, endless])
    home = world("nl4opt_declared", data=tmp_path)
    (task,) = home.tasks("test", 9)  # the other has no optimum
    assert float(task.answer) == pytest.approx(8000 / 9)
    session = home.start(task)
    (call,) = home.demonstrate(task).calls  # type: ignore[attr-defined]
    assert session.act(call).text.startswith(f"Optimal value: {task.answer}")
    session.close()


def test_declarations_are_read_kind_by_kind() -> None:
    kinds_of = [
        ({"type": "sum", "limit": "1,200", "operator": "LESS_OR_EQUAL"}, {"a": 1.0, "b": 1.0}, "<=", 1200.0),
        (
            {"type": "lowerbound", "var": "as", "limit": "one hundred", "operator": "GREATER_OR_EQUAL"},
            {"a": 1.0},
            ">=",
            100.0,
        ),
        (
            {"type": "ratio", "var": "b", "limit": "40%", "operator": "GREATER_OR_EQUAL"},
            {"a": -0.4, "b": 0.6},
            ">=",
            0.0,
        ),
        (
            {"type": "xby", "x_var": "a", "param": "three times", "y_var": "b", "operator": "LESS_OR_EQUAL"},
            {"a": 1.0, "b": -3.0},
            "<=",
            0.0,
        ),
    ]
    for given, terms, sense, limit in kinds_of:
        objective = {"direction": "minimum", "type": "objvar"}
        program = program_declared({"vars": ["a", "b"], "obj_declaration": objective, "const_declarations": [given]})
        (constraint,) = program.constraints
        assert (dict(constraint.terms), constraint.sense, constraint.limit) == (terms, sense, limit)
        assert (program.maximise, dict(program.objective)) == (False, {"a": 1.0, "b": 1.0})
    with pytest.raises(ValueError, match="unknown type of constraint 'rato'; did you mean 'ratio'"):
        program_declared({**DECLARED, "const_declarations": [{**kinds_of[2][0], "type": "rato"}]})
    with pytest.raises(ValueError, match="to 'guess', which is neither"):
        program_declared({**DECLARED, "obj_declaration": {"direction": "guess"}})


def test_amounts_are_read_as_people_write_them() -> None:
    said = {"1,500": 1500, "40%": 0.4, "thirty percent": 0.3, "third": 1 / 3, "three times": 3, "$7.5": 7.5}
    said |= {"one hundred thousand": 100_000, "8000 minutes": 8000, "twice": 2}
    for text, value in said.items():
        assert amount(text) == pytest.approx(value)
    with pytest.raises(ValueError, match="'some' is no number"):
        amount("some")
