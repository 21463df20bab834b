"""BFCL: the rules of its checker, one reply judged, rows of one's own, dialogues refused without their systems."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.contracts import kinds

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message
from ferrule.evaluate.evaluate import evaluate
from ferrule.policies.scripted import Scripted
from ferrule.worlds.named import world
from ferrule.worlds.session import SAY
from ferrule.worlds.suites.bfcl_check import check_calls

AREA = {
    "name": "geo.area",
    "description": "Area of a shape.",
    "parameters": {
        "type": "dict",
        "properties": {
            "base": {"type": "integer"}, "height": {"type": "float"}, "unit": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}}, "style": {"type": "dict"},
            "rows": {"type": "array", "items": {"type": "dict"}}, "round": {"type": "boolean"},
        },
        "required": ["base"],
    },
}  # fmt: skip
WANTED: dict[str, Any] = {
    "base": [10], "height": [5.0, ""], "unit": ["square cm", ""], "tags": [["New York", "x"], ""],
    "style": [{"color": ["red", "blue"], "bold": [True, ""]}, ""], "rows": [[{"k": [1]}, {"k": [2]}], ""],
    "round": [True, ""],
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        ({"base": 10}, True),
        ({}, False),  # required
        ({"base": 11}, False),
        ({"base": 10.0}, False),  # a float is no whole number
        ({"base": "10"}, False),
        ({"base": True}, False),
        ({"base": 10, "height": 5}, True),  # a whole number passes for a float
        ({"base": 10, "height": "5.0"}, False),
        ({"base": 10, "unit": "Square-CM."}, True),  # without case, spaces and punctuation
        ({"base": 10, "unit": "square m"}, False),
        ({"base": 10, "unit": ""}, True),  # "" is among the accepted
        ({"base": 10, "tags": ["new york", "X"]}, True),
        ({"base": 10, "tags": ["x", "New York"]}, False),  # order counts
        ({"base": 10, "tags": "New York"}, False),
        ({"base": 10, "tags": ["New York", 1]}, False),
        ({"base": 10, "style": {"color": "Red"}}, True),
        ({"base": 10, "style": {"color": "red", "bold": True}}, True),
        ({"base": 10, "style": {"bold": True}}, False),  # color may not be left out
        ({"base": 10, "style": {"color": "red", "size": 1}}, False),
        ({"base": 10, "rows": [{"k": 1}, {"k": 2}]}, True),
        ({"base": 10, "rows": [{"k": 2}, {"k": 1}]}, False),
        ({"base": 10, "rows": [{"k": 1}]}, False),
        ({"base": 10, "round": True}, True),
        ({"base": 10, "round": 1}, False),
        ({"base": 10, "depth": 1}, False),  # unknown
        ({"base": None}, False),
    ],
)
def test_rules_of_the_checker(arguments: Mapping[str, Any], right: bool) -> None:
    assert check_calls([("geo.area", arguments)], [AREA], [{"geo.area": WANTED}]).right is right


def test_a_value_of_the_answers_type_stands_for_a_variable() -> None:
    wanted = [{"geo.area": {"base": ["side", 3]}}]
    assert check_calls([("geo.area", {"base": "side"})], [AREA], wanted).right
    assert not check_calls([("geo.area", {"base": "Side"})], [AREA], wanted).right, "a variable is equal or not"
    assert check_calls([("geo.area", {"base": 3})], [AREA], wanted).right


def test_several_calls_in_any_order_each_wanted_once() -> None:
    wanted = [{"geo.area": {"base": [base]}} for base in (1, 2, 2)]
    calls = [("geo.area", {"base": base}) for base in (2, 1, 2)]
    assert check_calls(calls, [AREA], wanted).right
    assert "3 are wanted" in check_calls(calls[:2], [AREA], wanted).problem
    assert not check_calls([*calls[:2], ("geo.area", {"base": 1})], [AREA], wanted).right
    with pytest.raises(ValueError, match="does not describe"):
        check_calls(calls[:1], [AREA, {**AREA, "name": "other"}], [{"volume": {}}])


def rows(count: int = 10) -> list[dict[str, Any]]:
    return [
        {
            "id": f"r{i}", "question": [[{"role": "user", "content": f"Area of base {i}?"}]], "function": [AREA],
            "ground_truth": [{"geo.area": {"base": [i], "unit": ["cm", ""]}}],
        }
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The layout of the leaderboard: answers in files of their own."""
    home = tmp_path / "bfcl"
    (home / "possible_answer").mkdir(parents=True)
    given = rows()
    (home / "BFCL_v4_simple_python.json").write_text(
        "\n".join(json.dumps({k: v for k, v in row.items() if k != "ground_truth"}) for row in given)
    )
    (home / "BFCL_v4_live_simple_python.json").write_text("not the one that is meant")
    answers = [{"id": row["id"], "ground_truth": row["ground_truth"]} for row in given]
    (home / "possible_answer" / "BFCL_v4_simple_python.json").write_text("\n".join(map(json.dumps, answers)))
    bare = [{k: v for k, v in row.items() if k != "ground_truth"} for row in given]
    (home / "irrelevance.jsonl").write_text("\n".join(map(json.dumps, bare)))
    return tmp_path


def test_one_reply_is_judged_by_its_calls_as_they_were_written(folder: Path) -> None:
    home = world("bfcl:simple_python", data=folder)
    tasks = sorted(home.tasks("test", 100), key=lambda task: task.id)
    assert len(tasks) == 10

    def reply(ask: Ask, sample: int) -> Message | str:
        base = int("".join(filter(str.isdigit, str(ask.messages[-1].content))))
        given = {0: "0", 1: 2}.get(base, base)  # a text, which a repair would make a number; another number
        return "I do not know." if base == 9 else Message("assistant", calls=(Call("geo.area", {"base": given}),))

    evaluation = evaluate(ToolLoop(), Scripted(reply), home, tasks)
    assert evaluation.scores() == {task.id: float(i not in (0, 1, 9)) for i, task in enumerate(tasks)}
    assert {row.turns for row in evaluation.rows} == {1}


def test_no_call_is_right_where_none_is_wanted(folder: Path) -> None:
    home = world("bfcl:irrelevance", data=folder)
    (task,) = home.tasks("test", 1)
    for calls, right in (((), True), ((Call("", problem="unreadable"),), True), ((Call("geo.area", {}),), False)):
        session = home.start(task)
        assert all(session.act(call).terminal for call in calls)
        assert session.final()["right"] is right


def test_a_call_that_could_not_be_read_spoils_a_reply(folder: Path) -> None:
    home = world("bfcl:simple_python", data=folder)
    (task,) = home.tasks("test", 1)
    (call,) = home.demonstrate(task).calls  # type: ignore[attr-defined]
    session = home.start(task)
    session.act(call)
    assert session.final()["right"]
    session.act(Call("", problem="cut off"))
    assert "could not be read: cut off" in session.final()["problem"]


def test_a_file_of_rows_is_divided_and_keeps_the_promises_of_a_world(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows(40))))
    home = world("bfcl:simple_python", data=file)
    train, test = home.tasks("train", 100), home.tasks("test", 100)
    assert len(train) + len(test) == 40
    assert len(test) >= 4
    kinds.check_world(home, train[:3])
    kinds.check_demonstrations(home)
    assert home.start(replace(train[0], tools=())).tools == ()


def test_mistakes_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'bfcl:simple_python'"):
        world("bfcl:simple_pyton", data=folder)
    with pytest.raises(ValueError, match="tests only"):
        world("bfcl:simple_python", data=folder).tasks("train", 1)
    with pytest.raises(ValueError, match="tools would do nothing"):
        world("bfcl:simple_python", data=folder, tools=())
    with pytest.raises(FileNotFoundError, match=r"get it \(ferrule data bfcl\)"):
        world("bfcl:parallel", data=folder)
    broken = tmp_path / "broken.jsonl"
    broken.write_text(json.dumps({"id": "a", "questions": [], "function": [AREA], "ground_truth": []}))
    with pytest.raises(ValueError, match=r"broken.jsonl, line 1: no field 'question'; did you mean 'questions'"):
        world("bfcl:simple_python", data=broken)


def test_dialogues_say_what_installs_their_systems(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Another test of this process may have imported the package from an environment that has it.
    monkeypatch.setitem(sys.modules, "bfcl_eval.eval_checker.multi_turn_eval.func_source_code.math_api", None)
    with pytest.raises(ImportError, match="pip install --no-deps bfcl-eval mpmath"):
        world("bfcl:multi_turn_base", data=folder)


class MathAPI:
    """A system in the form of the package's: public methods, public attributes as state."""

    def __init__(self) -> None:
        self.kept = 0.0

    def keep(self, value: float) -> dict[str, float]:
        if value < 0:
            raise ValueError("negative")
        self.kept += value
        return {"kept": self.kept}


@pytest.fixture
def dialogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    where = "bfcl_eval.eval_checker.multi_turn_eval.func_source_code"
    for depth in range(1, 5):
        name = ".".join(where.split(".")[:depth])
        package = types.ModuleType(name)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, name, package)
    module = types.ModuleType(f"{where}.math_api")
    module.MathAPI = MathAPI  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    home = tmp_path / "bfcl"
    (home / "multi_turn_func_doc").mkdir(parents=True)
    schema = {"type": "dict", "properties": {"value": {"type": "float"}}, "required": ["value"]}
    doc = {"name": "keep", "description": "Keep.", "parameters": schema, "response": {}}
    (home / "multi_turn_func_doc" / "math_api.json").write_text(json.dumps(doc))
    row = {
        "id": "multi_turn_base_0", "initial_config": {}, "involved_classes": ["MathAPI"],
        "question": [[{"role": "user", "content": text}] for text in ("Keep 2.", "Thanks.", "Keep 3.")],
        "ground_truth": [["keep(value=2)"], [], ["keep(3)", "keep(value=0)"]],
    }  # fmt: skip
    (home / "multi_turn_base.jsonl").write_text(json.dumps(row))
    return tmp_path


@pytest.mark.parametrize(
    ("turns", "problem"),
    [
        (([2], [], [3, 0]), ""),
        (([1, 1], [], [3, 0]), ""),  # another way to the same state, past the same result
        (([2], [], [3]), "turn 2: the result '{\"kept\": 5.0}'"),  # the reference gets it twice
        (([2], [3], [0]), ""),  # what a later turn asks for may be there already
        (([2], [3], []), "turn 2: no call"),
        (([2, -1], [], [3, 0]), ""),  # a call that failed changes nothing
        (([3], [], [3, 0]), "turn 0: kept of MathAPI differs"),
    ],
)
def test_a_dialogue_is_judged_after_every_turn(dialogue: Path, turns: tuple[list[int], ...], problem: str) -> None:
    home = world("bfcl:multi_turn_base", data=dialogue)
    (task,) = home.tasks("test", 1)
    left = [list(turn) for turn in turns]
    heard: list[str] = []

    def reply(ask: Ask, sample: int) -> Message | str:
        if left[0]:
            return Message("assistant", calls=(Call("keep", {"value": left[0].pop(0)}),))
        left.pop(0)
        heard.append(str([m for m in ask.messages if m.role == "user"][-1].content))
        return "Done."

    evaluation = evaluate(ToolLoop(), Scripted(reply), home, [task])
    final = evaluation.episodes[0].trajectories[0].final
    assert heard == ["Keep 2.", "Thanks.", "Keep 3."]
    assert str(final["problem"]).startswith(problem)
    assert bool(final["problem"]) == bool(problem)
    assert evaluation.success == float(not problem)


def test_a_branch_of_a_dialogue_is_its_own(dialogue: Path) -> None:
    home = world("bfcl:multi_turn_base", data=dialogue)
    (task,) = home.tasks("test", 1)
    session = home.start(task)
    session.act(Call("keep", {"value": 2}))
    twin = session.fork()
    twin.act(Call("keep", {"value": 5}))
    assert session.act(Call(SAY, {"content": "Done."})).text == "Thanks."
    twin.act(Call(SAY, {"content": "Done."}))
    assert "differs" in twin.final()["problem"]
    assert "not played to its end" in session.final()["problem"]
    assert SAY not in {tool.name for tool in session.tools}


def test_a_function_is_missing_until_a_turn_brings_it(dialogue: Path) -> None:
    path = dialogue / "bfcl" / "multi_turn_base.jsonl"
    row = json.loads(path.read_text())
    row |= {"question": [row["question"][0], []], "ground_truth": [[], ["keep(2)"]], "missed_function": {"1": ["keep"]}}
    (dialogue / "bfcl" / "multi_turn_miss_func.jsonl").write_text(json.dumps(row))
    home = world("bfcl:multi_turn_miss_func", data=dialogue)
    (task,) = home.tasks("test", 1)
    session = home.start(task)
    assert session.tools == ()
    assert session.act(Call("keep", {"value": 2})).status == "unknown_tool"
    brought = session.act(Call(SAY, {"content": "I cannot."}))
    schemas, _, question = brought.text.partition("\n")
    assert [entry["name"] for entry in json.loads(schemas)] == ["keep"]
    assert "response" not in schemas
    assert question == "Here are more functions that you can call. Does it work now?"
    assert [tool.name for tool in session.tools] == ["keep"]
    assert session.act(Call("keep", {"value": 2})).status == "ok"
    assert session.act(Call(SAY, {"content": "Done."})).terminal
    assert session.final() == {"right": True, "problem": ""}
    again = home.start(task)
    for call in home.demonstrate(task).calls:  # type: ignore[attr-defined]
        again.act(call)
    assert again.final()["right"], "the value without a name is that of the first parameter"
    path.write_text(json.dumps({**row, "missed_function": {}}))
    with pytest.raises(ValueError, match="line 1: nothing is said in turn 1, and it brings no functions"):
        world("bfcl:multi_turn_base", data=dialogue)
