from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.toys import NOTE, Bench, own_world

from ferrule.core.records import Call, Observation, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.worlds.apis import Apis
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.mixed import Mixed
from ferrule.worlds.session import Toolbox, ToolSession, offered

TASK = Task("t", "p")
EMPTY = {"type": "object", "properties": {}}


def tool(name: str, run: Any = lambda: "ok", **more: Any) -> Tool:
    return Tool(name, "", EMPTY, run, **more)


def session(*tools: Tool, **more: Any) -> ToolSession:
    return ToolSession(TASK, lambda state: tools, **more)


def test_an_unknown_tool_is_answered_with_the_nearest() -> None:
    seen = session(tool("search"), tool("python")).act(Call("serach"))
    assert seen.status == "unknown_tool"
    assert "did you mean 'search'?" in seen.text
    assert "known: python, search" in seen.text
    assert session().act(Call("x")).text == "unknown tool 'x'; no tools are on offer"


def test_a_call_that_could_not_be_read_is_malformed_even_with_a_known_name() -> None:
    for name in ("search", "", "nobody"):
        seen = session(tool("search")).act(Call(name, problem="not a JSON object"))
        assert (seen.status, seen.text) == ("malformed", "malformed call: not a JSON object")


def test_calls_that_did_not_run_cost_nothing() -> None:
    made = session(tool("a"), budget=Budget(total=1))
    made.act(Call("nobody"))
    made.act(Call("a", problem="x"))
    assert [made.act(Call("a")).status for _ in range(2)] == ["ok", "refused"]


def test_the_budget_holds_for_calls_at_the_same_time() -> None:
    made = session(tool("a"), budget=Budget(total=5))
    seen: list[Observation] = []
    threads = [threading.Thread(target=lambda: seen.append(made.act(Call("a")))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(o.status for o in seen) == ["ok"] * 5 + ["refused"] * 7


def test_observations_are_cut_to_the_limit() -> None:
    seen = session(tool("a", lambda: "x" * 5000), limit=100).act(Call("a"))
    assert seen.text.count("x") == 100
    assert "4900 characters left out" in seen.text


def test_a_terminal_tool_says_so_when_it_worked() -> None:
    made = session(tool("end", lambda: "42", terminal=True), tool("bad", lambda: 1 / 0, terminal=True))
    assert made.act(Call("end")).terminal
    assert not made.act(Call("end", {"x": 1})).terminal
    assert not made.act(Call("bad")).terminal


def test_final_is_what_the_world_says() -> None:
    assert session().final() == {}
    assert ToolSession(TASK, lambda s: (), [1], final=lambda s: {"n": len(s)}).final() == {"n": 1}


@dataclass
class Counter:
    count: int = 0
    closed: int = 0
    kids: list[Counter] = field(default_factory=list)

    def fork(self) -> Counter:
        self.kids.append(Counter(self.count))
        return self.kids[-1]

    def close(self) -> None:
        self.closed += 1


def test_state_that_can_fork_and_close_is_asked_to() -> None:
    state = Counter(3)
    made = ToolSession(TASK, lambda s: (), state)
    twin = made.fork()
    twin.close()
    made.close()
    made.close()
    assert [k.closed for k in state.kids] == [1]
    assert state.closed == 2


def test_other_state_is_copied() -> None:
    def build(state: dict[str, list[int]]) -> tuple[Tool, ...]:
        return (tool("add", lambda: str(len(state["x"]) if state["x"].append(1) is None else 0)),)

    made = ToolSession(TASK, build, {"x": []})
    made.act(Call("add"))
    twin = made.fork()
    assert [twin.act(Call("add")).text, twin.act(Call("add")).text] == ["2", "3"]
    assert made.act(Call("add")).text == "2"


def test_a_fork_of_a_fork_keeps_the_budget_that_is_left() -> None:
    made = session(tool("a"), budget=Budget(total=3))
    made.act(Call("a"))
    twin = made.fork().fork()
    assert [twin.act(Call("a")).status for _ in range(3)] == ["ok", "ok", "refused"]
    assert made.act(Call("a")).status == "ok"


def test_offered_tools() -> None:
    both = (tool("a"), tool("b"))
    assert offered(both, TASK) == both
    assert offered(both, Task("t", "p", tools=())) == ()
    assert [t.name for t in offered(both, Task("t", "p", tools=("b", "a")))] == ["b", "a"]
    with pytest.raises(ValueError, match=r"task 't' offers the tool 'c'; known: a, b"):
        offered(both, Task("t", "p", tools=("c",)))


def test_a_toolbox_plays_any_prompt() -> None:
    world = Toolbox((NOTE,), calls=1)
    made = world.start(Task("mine", "anything"))
    assert made.act(Call("note", {"text": "x"})).text == "noted x"
    assert made.act(Call("note", {"text": "x"})).status == "refused"
    assert world.tasks("train", 3) == []


# --------------------------------------------------------------------------------------------------------------- mixed


def test_worlds_take_turns() -> None:
    world = Mixed((Arithmetic(), Apis(), own_world()))
    tasks = world.tasks("train", 7, seed=2)
    assert world.name == "arithmetic+apis+own"
    assert [t.world for t in tasks] == ["arithmetic", "apis", "own"] * 2 + ["arithmetic"]
    assert tasks[::3] == Arithmetic().tasks("train", 3, seed=2)
    assert world.tasks("train", 20, seed=2)[:7] == tasks
    assert world.tasks("train", 0) == []


def test_a_task_is_started_by_the_world_it_names() -> None:
    world = Mixed((Arithmetic(), Apis()))
    first, second = world.tasks("train", 2)
    assert [t.name for t in world.start(first).tools] == ["calculator", "python"]
    assert "python" not in [t.name for t in world.start(second).tools]
    with pytest.raises(ValueError, match=r"belongs to world 'facts'; .*known: apis, arithmetic"):
        world.start(Task("t", "p", world="facts"))


def test_worlds_that_cannot_be_told_apart_or_have_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="two worlds named 'arithmetic'"):
        Mixed((Arithmetic(), Arithmetic(form="words")))
    with pytest.raises(ValueError, match="at least one world"):
        Mixed(())
    with pytest.raises(ValueError, match="world 'toolbox' has no train tasks to give"):
        Mixed((Arithmetic(), Toolbox(()))).tasks("train", 2)


def test_the_bench_of_the_tests_is_sound() -> None:
    """Other tests rely on it: a fork has its own lines, and closing is counted."""
    world = Bench()
    made = world.start(world.tasks("train", 1)[0])
    made.act(Call("write", {"line": "a"}))
    twin = made.fork()
    twin.act(Call("write", {"line": "b"}))
    assert (made.final(), twin.final()) == ({"lines": ["a"]}, {"lines": ["a", "b"]})
    made.close()
    assert world.states[0].closed == 1
