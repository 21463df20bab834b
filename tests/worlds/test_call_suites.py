"""API-Bank and RestBench: the next call of a dialogue, and the path of calls through a web API."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tests.contracts import kinds

from ferrule.core.records import Call
from ferrule.worlds.named import world


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "text": text}


def called(name: str, output: Any, **given: str) -> dict[str, Any]:
    return {"role": "API", "api_name": name, "param_dict": given, "result": {"output": output}}


TURNS = [
    said("User", "Add a meeting at ten. I am ann, password x."),
    said("AI", "Let me look."),
    called("ToolSearcher", [], keywords="meeting"),
    called("GetUserToken", {"token": "t1"}, username="ann", password="x"),
    said("AI", "Now the meeting."),
    called("AddMeeting", "success", token="t1", time="10:00"),
]


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    home = tmp_path / "api_bank"
    home.mkdir()
    with (home / "all_apis.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["\u7c7b\u540d", "api_info"])
        told = "description = 'Token.'\ninput_parameters = {'username': {'type': 'str', 'description': 'Name.'}}"
        rows.writerows([["GetUserToken", told], ["AddMeeting", "."], ["Never", "input_parameters = {'a': {}}"]])
    row = {"file": "one.jsonl", "set": "level-2-toolsearcher", "turns": TURNS}
    (home / "dialogues.jsonl").write_text(json.dumps(row))
    samples = tmp_path / "clone" / "api-bank" / "lv1-lv2-samples"
    for folder, name in (("level-1-given-desc", "b"), ("level-2-toolsearcher", "a")):
        (samples / folder).mkdir(parents=True)
        (samples / folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, TURNS)))
    (tmp_path / "clone" / "api-bank" / "data").mkdir()
    (tmp_path / "clone" / "api-bank" / "data" / "all_apis.csv").write_bytes((home / "all_apis.csv").read_bytes())
    return tmp_path


def test_every_call_of_a_dialogue_is_a_task(bank: Path) -> None:
    home: Any = world("api_bank", data=bank)
    first, second = sorted(home.tasks("test", 9, levels=(2,)), key=lambda task: str(task.id))
    assert (first.id, second.id) == ("api_bank/one/3", "api_bank/one/5")
    # What the assistant says before its call is a part of its turn, and not asked.
    assert [message.role for message in first.conversation] == ["user", "assistant", "assistant", "tool"]
    assert [message.role for message in second.conversation][-2:] == ["assistant", "tool"]
    assert "t1" in str(second.conversation[-1].content)
    for task in (first, second):
        session = home.start(task)
        assert [tool.name for tool in session.tools] == ["GetUserToken", "AddMeeting"]
        assert [session.act(call).status for call in home.demonstrate(task).calls] == ["ok"]
        assert session.final()["right"]
    session = home.start(second)
    session.act(Call("AddMeeting", {"token": "t1", "time": "11:00"}))
    assert not session.final()["right"]
    kinds.check_world(home, [first])


def test_the_layout_of_the_repository(bank: Path) -> None:
    home = world("api_bank", data=bank / "clone")
    assert {task.id: task.meta["level"] for task in home.tasks("test", 9)} == {
        "api_bank/b/3": 1, "api_bank/b/5": 1, "api_bank/a/3": 2, "api_bank/a/5": 2,
    }  # fmt: skip


SPEC = {
    "paths": {
        "/search": {
            "get": {
                "description": "Search.",
                "parameters": [{"$ref": "#/components/parameters/q"}],
                "responses": {"200": {"content": {"application/json": {"examples": {"r": {"value": {"id": 7}}}}}}},
            }
        },
        "/film/{film_id}": {
            "parameters": [{"name": "film_id", "in": "path", "required": True, "schema": {"type": "integer"}}],
            "get": {"responses": {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/film"}}}}}},
            "put": {"requestBody": {"content": {"application/json": {"schema": {"properties": {"stars": {"type": "integer"}}}}}}},
        },
    },
    "components": {
        "parameters": {"q": {"name": "q", "in": "query", "required": True, "schema": {"type": "string", "default": 1}}},
        "film": {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
    },
}  # fmt: skip


@pytest.fixture
def rest(tmp_path: Path) -> Path:
    home = tmp_path / "restbench"
    home.mkdir()
    (home / "tmdb_oas.json").write_text(json.dumps(SPEC))
    rows = [{"query": "The film of Ann?", "solution": [" GET /search", "GET /film/{id}"]}]
    (home / "tmdb.json").write_text(json.dumps(rows))
    return tmp_path


@pytest.mark.parametrize(
    ("names", "right"),
    [
        (("get_search", "get_film_film_id"), True),
        (("get_search", "put_film_film_id", "get_film_film_id"), True),  # others in between do not matter
        (("get_film_film_id", "get_search"), False),
        (("get_search",), False),
    ],
)
def test_the_path_is_right_in_its_order(rest: Path, names: tuple[str, ...], right: bool) -> None:
    home = world("restbench:tmdb", data=rest)
    (task,) = home.tasks("test", 9)
    session = home.start(task)
    given: dict[str, dict[str, Any]] = {"get_search": {"q": "Ann"}, "put_film_film_id": {"film_id": 7, "stars": 5}}
    for name in names:
        assert session.act(Call(name, given.get(name, {"film_id": 7}))).status == "ok"
    assert session.final() == {"right": right, "called": list(names)}


def test_endpoints_answer_with_examples_or_values_of_their_schema(rest: Path) -> None:
    home = world("restbench:tmdb", data=rest)
    (task,) = home.tasks("test", 9)
    session = home.start(task)
    assert json.loads(session.act(Call("get_search", {"q": "Ann"})).text) == {"id": 7}
    assert json.loads(session.act(Call("get_film_film_id", {"film_id": 7})).text) == {"title": "text"}
    refused = session.act(Call("get_film_film_id", {}))
    assert refused.status == "malformed"
    assert session.final()["called"] == ["get_search", "get_film_film_id"], "a refused call is none"
    search = next(tool for tool in session.tools if tool.name == "get_search")
    assert search.parameters["properties"]["q"] == {"type": "string"}, "a default that does not fit"
    kinds.check_world(home, [task])


def test_mistakes_are_told(rest: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'restbench:tmdb'"):
        world("restbench:tmbd", data=rest)
    (rest / "restbench" / "mine.jsonl").write_text(json.dumps({"query": "x", "solution": ["GET /films/{id}"]}))
    with pytest.raises(ValueError, match="no endpoint 'GET /films"):
        world("restbench:tmdb", data=rest / "restbench" / "mine.jsonl")
