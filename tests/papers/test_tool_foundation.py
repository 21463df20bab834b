"""Tool learning with foundation models: the worked examples, the platform's client, and plans beside loops."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ferrule.agents.helpers import Helper, child_turns
from ferrule.agents.react import ToolLoop
from ferrule.agents.stages import OneStep
from ferrule.core.records import Call, Message, Task, Tool
from ferrule.papers.claims.tool_foundation import STUDY
from ferrule.papers.tool_foundation import (
    ADVICE,
    HINT,
    TOOLS,
    action_chances,
    best_action,
    dotted,
    manifest,
    method,
    nearest_tools,
    platform_tools,
    read_input,
    tool_first,
    two_level,
)
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.studies.standins.controllers import Chains, policies, program
from ferrule.studies.table import plain
from ferrule.tools.invoke import invoke
from ferrule.tools.openapi_document import operations
from ferrule.tools.pack import PACK
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.session import Toolbox


def test_the_best_action_may_belong_to_the_less_likely_tool() -> None:
    """Example 1: .6 * (.5, .5, 0) + .4 * (0, .1, .9) = (.30, .34, .36)."""
    tool, action = (0.6, 0.4), ((0.5, 0.5, 0.0), (0.0, 0.1, 0.9))
    assert action_chances(tool, action) == pytest.approx([0.30, 0.34, 0.36])
    assert best_action(tool, action) == 2
    assert tool_first(tool, action) == 0


def test_names_are_paths_with_points() -> None:
    """Example 2."""
    paths = {"/get_weather_today": "get_weather_today", "/v1/find/city": "v1.find.city", "/city/{id}": "city.id"}
    spec = {"openapi": "3.0.0", "paths": {path: {"get": {"responses": {}}} for path in paths}}
    assert [dotted(operation) for operation in operations(spec)] == list(paths.values())


def test_inputs_are_json_and_may_be_wrapped() -> None:
    """Example 3."""
    assert read_input('{"tool_input": {"city": "Rome"}}') == {"city": "Rome"}
    assert read_input('{"city": "Rome"}') == {"city": "Rome"}
    assert read_input("Rome") == HINT
    assert read_input("[1]") == HINT
    assert read_input('{"tool_input": "Rome"}') == HINT


def test_tools_are_retrieved_by_inner_product() -> None:
    """Example 4; equal ones by name."""
    assert nearest_tools((1, 0), {"a": (0.9, 0.1), "b": (0.2, 0.9), "c": (0.95, 0.0)}, k=2) == ["c", "a"]
    assert nearest_tools((1, 0), {"b": (1, 0), "a": (1, 5), "c": (0, 1)}) == ["a", "b", "c"]


def test_a_sub_agent_is_called_in_words_and_its_trace_is_kept() -> None:
    """Example 5: the inner agent uses its two APIs and returns one text; its steps are no tokens of the outer trace."""
    none: dict[str, Any] = {"type": "object", "properties": {}}
    world = Toolbox((Tool("find", "Find.", none, lambda: "C6H6"), Tool("rings", "Count.", none, lambda: 1)))
    roles = {
        "solver": Scripted([Message("assistant", "", (Call("chem", {"request": "how many rings in X"}),)), "1"]),
        "chem": Scripted([Message("assistant", "", (Call(n),)) for n in ("find", "rings")] + ["X has 1 ring"]),  # type: ignore[operator]
    }
    agent = two_level([Helper("chem", "Knows molecules.", ToolLoop())])
    (episode,) = drive(agent, [Task("t", "Rings?", world="toolbox")], world, roles)
    (outer,), (inner,) = episode.of_role("solver"), episode.of_role("chem")
    assert [seen.text for turn in outer.turns for seen in turn.observations] == ["X has 1 ring"]
    assert len(outer.turns) == 2
    assert list(child_turns(inner.turns, outer.turns[0].observations[0])) == list(inner.turns)
    assert [call.name for call, _ in inner.calls] == ["find", "rings"]


class _City(BaseHTTPRequestHandler):
    def log_message(self, *args: Any) -> None: ...

    def do_GET(self) -> None:
        found = "city=Rome" in self.path
        body = b"x" * 5000 if found else b"no such city"
        self.send_response(200 if found else 404)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[str]:
    listening = ThreadingHTTPServer(("127.0.0.1", 0), _City)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()
    thread.join()


def test_the_platforms_client_talks_to_a_server(server: str) -> None:
    city = {"name": "city", "in": "query", "required": True, "schema": {"type": "string"}, "description": "a name"}
    find = {"summary": "Find a city.", "parameters": [city], "responses": {}}
    (tool,) = platform_tools({"openapi": "3.0.0", "paths": {"/v1/find": {"get": find}}}, server=server)
    assert tool.name == "v1.find"
    assert tool.description == "Find a city.\nParameters:\ncity (str): a name\nThe input must be a JSON object of them."

    def said(text: str) -> Any:
        return invoke(tool, Call("v1.find", {"input": text}))

    assert said('{"city": "Rome"}').text == "x" * 4000 + "\n[... 1000 characters left out ...]"
    assert said('{"city": "Rom"}').text == f"Error code 404. HTTP 404 Not Found: no such city {ADVICE}"
    assert (said("Rome").status, said("Rome").text) == ("malformed", HINT)
    assert said('{"town": "Rome"}').text == "city: is missing; town: is unknown"


def test_manifests_and_tools_of_the_paper() -> None:
    held = manifest("weather", "Tells the weather.", "http://x/openapi.json")
    assert json.loads(json.dumps(held))["api"] == {"type": "openapi", "url": "http://x/openapi.json"}
    assert held["auth"] == {"type": "none"}
    assert len(TOOLS) == 18
    assert {name for name in TOOLS.values() if name} <= set(PACK)
    assert len({name for name in TOOLS.values() if name}) == 14


def test_training_is_from_demonstrations_and_then_from_feedback() -> None:
    base = plain()
    imitation, learning = method(base, Arithmetic(), imitate=3).stages
    assert imitation.settings == {"max_steps": 3}
    assert learning is base


def test_chains_are_solved_by_who_makes_no_slips() -> None:
    """Without slips the loop is right whatever the errors, and a plan where none errs and no tool depends on a number."""
    world = Chains(6, 4, 0.5)
    tasks = world.tasks("test", 12)
    right = policies(0, slip=0.0, lost=0.0)
    loop = drive(ToolLoop(turns=12), tasks, world, right)
    assert [episode.trajectories[0].answer for episode in loop] == [task.answer for task in tasks]
    plan = drive(OneStep(program(), k=6), (short := Chains(6, 2, 0.0)).tasks("test", 12), short, right)
    assert [episode.trajectories[0].answer for episode in plan] == [episode.task.answer for episode in plan]
    assert {episode.spent["solver"].asks for episode in plan} == {1}


def test_reading_what_came_back_matters() -> None:
    """The ablation that must differ: with errors the loop is ahead, and asks more often."""
    plan, loop = (STUDY.arms[name](seed=2, tasks=20) for name in ("plan", "loop"))
    assert loop["4 steps, errors 0.2"] > plan["4 steps, errors 0.2"] + 0.2
    assert loop["asks, 4 steps, errors 0"] == 5.0
    assert plan["asks, 4 steps, errors 0"] == 1.0


def test_operations_of_one_path_have_names_of_their_own() -> None:
    """The platform's names are paths alone; documents of a real kind have several methods on most of them."""
    spec = {"openapi": "3.0.0", "paths": {"/b/{id}": {"get": {}, "put": {}, "delete": {}}, "/": {"get": {}}}}
    names = [tool.name for tool in platform_tools(spec, server="http://127.0.0.1:1")]
    assert names == ["b.id", "b.id.put", "b.id.delete", "get"]


def test_where_no_server_answers_there_is_no_code() -> None:
    spec = {"openapi": "3.0.0", "paths": {"/a": {"get": {}}}}
    (tool,) = platform_tools(spec, server="http://127.0.0.1:1")
    said = invoke(tool, Call("a", {"input": "{}"}))
    assert said.text.startswith("no answer from 127.0.0.1: ConnectError")
    assert said.text.endswith(ADVICE)
