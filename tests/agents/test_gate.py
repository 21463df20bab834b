"""The agent that acts on verified facts: the worked examples of the paper, and the loop under a driver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from ferrule.agents.gate import CALL, CALL_END, FAILED, Phase, Step, ToolGate, call_phase, rank, read_step, tool_text
from ferrule.core.flows import Session, Use
from ferrule.core.records import Observation, Task, Tool, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.tools.contracts import Contract, Fact, State, from_schema, gate, verify
from ferrule.worlds.gated import Gated, unaccounted
from ferrule.worlds.session import Toolbox
from ferrule.worlds.wrap import Wrapped


def schema(*names: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {} for name in names}, "required": list(names)}


def contracts(reference: bool) -> dict[str, Contract]:
    return {
        "find": Contract(("exists(city)",), ('has_field("id")',), {"id": "result.id"}, reference=reference),
        "book": Contract(("exists(id)",), ('has_field("ref")',), {"ref": "result.ref"}, reference=reference),
    }


FIND = Tool("find", "find a place", schema("city"), lambda city: {"id": 3})
BOOK = Tool("book", "book a place", schema("id"), lambda id: {"ref": f"r{id}"}, effects="write")


def play(
    tools: Sequence[Tool], results: Mapping[str, Any], state: State, reference: bool = False, **more: Any
) -> Phase:
    """Carry a call phase out with given results; an exception is an observation of status error."""
    flow = call_phase(state, tools, contracts(reference), **more)

    def run() -> Iterator[Phase]:
        yield (yield from flow)

    inner = run()
    request: Any = next(inner)
    while isinstance(request, Use):
        result = results[request.calls[0].name]
        broke = isinstance(result, Exception)
        observation = Observation("broke", "error") if broke else Observation("", data=result)
        request = inner.send((observation,))  # type: ignore[attr-defined]
    assert isinstance(request, Phase)
    return request


def oslo(reference: bool) -> State:
    return State({"city": Fact("Oslo")}, lenient=reference)


@pytest.mark.parametrize("reference", [False, True])
def test_example_1_the_precondition_gates(reference: bool) -> None:
    """book is passed over because there is no id; that is no failure."""
    phase = play([BOOK, FIND], {"find": {"id": 3}}, oslo(reference), reference)
    assert phase.state.values() == {"city": "Oslo", "id": 3}
    assert (phase.called, phase.failed, phase.committed) == (("find",), (), True)
    assert phase.state.facts["id"].type == ("string" if reference else "integer")


@pytest.mark.parametrize("reference", [False, True])
def test_example_2_the_postcondition_gates(reference: bool) -> None:
    state = oslo(reference)
    for result in ({"name": "x"}, ValueError("down")):
        phase = play([BOOK, FIND], {"find": result}, state, reference)
        assert phase == Phase(state, ("find",), ("find",))


def test_example_3_what_exists() -> None:
    """0 and the empty text exist, null does not; the released code lets a null pass the type check, and any words."""
    state = State({"n": Fact(0, "integer"), "e": Fact(""), "x": Fact(None)})
    assert [state.exists(name) for name in ("n", "e", "x", "y")] == [True, True, False, False]
    lenient = [gate(state, Contract(pre=(text,), reference=True)).passed for text in ("type(x) == str", "x != None")]
    assert lenient == [True, False]
    assert gate(state, Contract(pre=("the moon is full",), reference=True)).passed
    assert verify(state, Contract(post=("the moon is full", "result.a == 3"), reference=True), {}).passed
    assert not gate(state, Contract(pre=("type(x) == str",))).passed
    with pytest.raises(ValueError, match="cannot be read"):
        Contract(pre=("the moon is full",))


@pytest.mark.parametrize("reference", [False, True])
def test_example_4_update_rules_follow_paths(reference: bool) -> None:
    def committed(rule: str) -> tuple[bool, dict[str, Any]]:
        contract = Contract((), ('has_field("data")',), {"t": rule}, reference=reference)
        verdict = verify(State(lenient=reference), contract, {"data": [{"title": "A"}]})
        return verdict.passed, verdict.state.values()

    assert committed("result.data.0.title") == (True, {"t": "A"})
    assert committed("result.data.3.title") == (True, {})


@pytest.mark.parametrize("reference", [False, True])
def test_example_5_contracts_from_schemas(reference: bool) -> None:
    output = {"type": "object", "properties": {"u": {}, "v": {}}}
    made = from_schema(Tool("f", "", schema("x", "y"), str, output=output), reference=reference)
    assert made.pre == ("exists(x)", "exists(y)")
    assert made.post == ('has_field("u")', 'has_field("v")')
    assert made.updates == {"u": "result.u", "v": "result.v"}
    empty = from_schema(Tool("f", "", {}, str), reference=reference)
    assert (empty.pre, empty.post, empty.updates, empty.trivial) == ((), (), {}, True)


def test_example_6_markers() -> None:
    assert read_step(f"r {CALL} a {CALL} b") == Step("r", f"a {CALL} b")
    assert read_step(f"no call {CALL_END} here") == Step(f"no call {CALL_END} here")
    assert read_step(f"{CALL} a {CALL_END} rest") == Step("", "a")


def test_missing_arguments_are_null_in_the_released_code_only() -> None:
    open_door = {"find": Contract(updates={"id": "result.id"})}
    flow = call_phase(State(), [FIND], open_door, missing="null")
    request = next(flow)
    assert isinstance(request, Use)
    assert request.calls[0].arguments == {"city": None}
    with pytest.raises(StopIteration):
        next(call_phase(State(), [FIND], open_door))


def test_custom_functions_get_records_in_the_released_code_only() -> None:
    seen: list[Any] = []
    for reference in (True, False):
        contract = Contract(ensure=lambda old: seen.append(old["city"]) or True, reference=reference)
        assert verify(oslo(reference), contract, {}).passed
    assert seen == [Fact("Oslo"), "Oslo"]


def episode(script: Any, agent_: ToolGate, *tools: Tool, entities: Mapping[str, Any] | None = None) -> Any:
    task = Task("t", "Book it.", meta={"entities": entities or {"city": "Oslo"}})
    (played,) = drive(agent_, [task], Toolbox(tools), Scripted(script))
    assert not played.problem
    return played


def test_the_loop_reads_calls_commits_and_answers() -> None:
    script = [
        f"I need a place. {CALL} find a place {CALL_END} ignored",
        f"{CALL} book the place {CALL_END}",
        "Booked r3.",
    ]
    played = episode(script, ToolGate(contracts(False)), FIND, BOOK)
    assert played.trajectories[0].answer == "Booked r3."
    told = [plain_text(message) for turn in played.trajectories[0].turns for message in turn.messages]
    assert told[1:] == [
        "Known facts:\ncity(string): Oslo\nBook it.",
        '<start_tool_result> {"id": 3} <end_tool_result>\nKnown facts:\ncity(string): Oslo\nid(integer): 3',
        '<start_tool_result> {"ref": "r3"} <end_tool_result>\n'
        "Known facts:\ncity(string): Oslo\nid(integer): 3\nref(string): r3",
    ]
    assert plain_text(played.trajectories[0].turns[0].reply).endswith(f"a place {CALL_END}")


def test_results_are_cut_and_steps_are_counted() -> None:
    long = Tool("find", "find a place", schema("city"), lambda city: {"id": "x" * 600})
    played = episode(lambda ask, sample: f"{CALL} find a place", ToolGate(contracts(False), steps=3), long)
    turns = played.trajectories[0].turns
    assert (played.trajectories[0].answer, len(turns)) == (None, 3)
    result = plain_text(turns[1].messages[0]).split("\n")[0]
    assert len(result) == 500 + len("<start_tool_result>  <end_tool_result>")
    assert f"id(string): {'x' * 50}" in plain_text(turns[1].messages[0]).split("\n")


def flaky(effects: Any) -> tuple[Tool, list[str]]:
    """A tool that is down at its first call, and the calls made of it."""
    calls: list[str] = []

    def run(city: str) -> dict[str, int]:
        calls.append(city)
        if len(calls) == 1:
            raise ConnectionError("down")
        return {"id": 3}

    return Tool("find", "find a place", schema("city"), run, effects=effects), calls


@pytest.mark.parametrize(("ban", "effects", "count"), [("phase", "read", 2), ("phase", "write", 1), ("run", "read", 1)])
def test_a_failed_tool_is_tried_again_where_that_is_safe(ban: Any, effects: Any, count: int) -> None:
    tool, calls = flaky(effects)
    played = episode([f"{CALL} find a place"] * 2 + ["done"], ToolGate(contracts(False), ban=ban), tool)
    assert len(calls) == count
    assert plain_text(played.trajectories[0].turns[1].messages[0]).startswith(FAILED)


def test_retrieval_reads_descriptions_names_parameters_and_contracts() -> None:
    tools = [
        Tool(f"tool_{i}", text, schema(), str) for i, text in enumerate(("rain and wind", "trains", "hotels in towns"))
    ]
    assert [tool.name for tool in rank("a hotel or hotels", tools, {})] == ["tool_2", "tool_0", "tool_1"]
    ranked = rank("price", tools, {"tool_1": Contract(updates={"price": "result"})})
    assert ranked[0].name == "tool_1"
    many = Tool("t", "d", schema(*"abcdefg"), str)
    assert tool_text(many, Contract(pre=tuple(f"exists({c})" for c in "vwxyz"))) == (
        "d t a b c d e exists(v) exists(w) exists(x)"
    )
    calls: list[str] = []
    for_all = [Tool(f"t{i}", "x", schema(), lambda i=i: calls.append(i) or 1 / 0) for i in range(30)]
    episode([f"{CALL} x", "done"], ToolGate({t.name: Contract() for t in for_all}), *for_all)
    assert len(calls) == 16  # the budget of the toolbox; 25 would be tried
    calls.clear()
    episode([f"{CALL} x", "done"], ToolGate({t.name: Contract() for t in for_all}, width=4), *for_all)
    assert calls == [0, 1, 2, 3]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="ban is 'never'; known: phase, run"):
        ToolGate(ban="never")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps is 0"):
        ToolGate(steps=0)


def test_the_agent_takes_contracts_and_facts_of_a_gate_and_comes_to_the_same_state() -> None:
    told: list[State] = []

    def behind(session: Session, task: Task, seed: int) -> Session:
        return Gated(session, contracts(False), State.of({"city": "Oslo"}))

    def watch(query: str, tools: Sequence[Tool], known: Mapping[str, Contract]) -> Sequence[Tool]:
        told.append(State.of({"seen": query}))
        return rank(query, tools, known)

    script = [f"{CALL} find a place", f"{CALL} book the place", "done"]
    world = Wrapped(Toolbox((FIND, BOOK)), behind)
    (played,) = drive(ToolGate(retrieve=watch), [Task("t", "Book it.")], world, Scripted(script))
    report = played.trajectories[0].final["gate"]
    assert report["facts"] == {"city": "Oslo", "id": 3, "ref": "r3"}
    assert unaccounted(report) == []
    assert "ref(string): r3" in plain_text(played.trajectories[0].turns[-1].messages[-1])
