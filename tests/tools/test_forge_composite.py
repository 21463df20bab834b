"""Composites: which sequences recur, how their data flows, and how they run in a session."""

from __future__ import annotations

from typing import Any

import pytest

from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn
from ferrule.tools.budget import Budget
from ferrule.tools.contracts import Contract
from ferrule.tools.forge_composite import (
    ArgumentSource,
    Composite,
    Frequent,
    RunLog,
    composed,
    contract_of,
    expanded,
    frequent,
    mined,
    outdone,
    run_log,
)
from ferrule.tools.invoke import invoke
from ferrule.tools.tool import tool
from ferrule.worlds.composed import needless_steps, replayed, with_composites
from ferrule.worlds.session import ToolSession


def log(names: str, verified: bool = True) -> RunLog:
    return RunLog(tuple((Call(name), Observation("")) for name in names.split(",")), verified)


def test_what_recurs_and_succeeds_is_kept() -> None:
    """Worked example 1: (segment, measure) has one verified run of two, the longer ones one each."""
    runs = [log("load,segment,measure"), log("load,segment,grade"), log("segment,measure", False)]
    assert frequent(runs) == [Frequent(("load", "segment"), 2, 1.0)]
    assert frequent(runs, support=1, rate=0.6) == [
        Frequent(("load", "segment"), 2, 1.0),
        Frequent(("load", "segment", "grade"), 1, 1.0),
        Frequent(("load", "segment", "measure"), 1, 1.0),
    ]  # all are worth 2: 2 * 1, and 1 * 2


def test_sequences_within_longer_ones_are_left_out() -> None:
    """Worked example 2: (b, c) has the support of (a, b, c); ranks are 2 * 2 = 4 and 3 * 1 = 3."""
    runs = [log("a,b,c"), log("a,b,c"), log("a,b")]
    assert frequent(runs) == [Frequent(("a", "b", "c"), 2, 1.0), Frequent(("a", "b"), 3, 1.0)]
    assert frequent([log("a,a,a"), log("a,a,a")]) == []
    assert len(frequent(runs, most=1)) == 1


@tool
def find(name: str, limit: int = 5) -> dict[str, Any]:
    """Find a person.

    Args:
        name: who is looked for
    """
    return {"people": [{"id": len(name)}], "limit": limit}


@tool
def look(at: str) -> str:
    """Look at something, which changes nothing."""
    return f"seen {at}"


@tool
def read(id: int) -> dict[str, int]:
    """Read the value of a person."""
    if id > 9:
        raise ValueError("no such person")
    return {"v": 10 * id}


def session(total: int = 20) -> ToolSession:
    return ToolSession(Task("t", ""), lambda state: (find, look, read), None, budget=Budget(total=total))


def run_of(*calls: Call, verified: bool = True) -> RunLog:
    here = session()
    return RunLog(tuple((call, here.act(call)) for call in calls), verified)


def found(name: str, *between: Call) -> RunLog:
    return run_of(Call("find", {"name": name, "limit": 5}), *between, Call("read", {"id": len(name)}))


def test_data_flow_is_read_off_the_runs() -> None:
    """Worked example 5: the id is passed on, the limit is always 5, and the name is what is left."""
    one = composed(("find", "read"), [found("ann"), found("peter")])
    assert (one.name, one.parameters, one.mined_from) == ("find_read", ("name",), 2)
    assert one.steps[0].arguments == {"name": ArgumentSource("name"), "limit": ArgumentSource(constant=5)}
    assert one.steps[1].arguments == {"id": ArgumentSource(step=0, path=("people", 0, "id"))}
    with pytest.raises(ValueError, match="no verified run"):
        composed(("read", "find"), [found("ann")])
    unlike = run_of(Call("find", {"name": "bo"}), Call("read", {"id": 2}))
    with pytest.raises(ValueError, match="different arguments"):
        composed(("find", "read"), [found("ann"), unlike])


def test_parameters_of_one_name_are_told_apart() -> None:
    runs = [run_of(Call("look", {"at": a}), Call("find", {"name": n, "limit": 5}), Call("look", {"at": b}))
            for a, n, b in (("x", "ann", "y"), ("z", "bob", "z"))]  # fmt: skip
    assert composed(("look", "find", "look"), runs).parameters == ("at", "name", "at_of_look")
    same = [run_of(Call("look", {"at": a}), Call("find", {"name": n, "limit": 5}), Call("look", {"at": a}))
            for a, n in (("x", "ann"), ("z", "bob"))]  # fmt: skip
    assert composed(("look", "find", "look"), same).parameters == ("at", "name")


def test_a_composite_is_one_call_and_the_record_has_all() -> None:
    (one,) = mined([found("ann"), found("peter")])
    here = with_composites(session(), (one,))
    offered = here.tools[-1]
    assert offered.parameters == {
        "type": "object",
        "properties": {"name": {"type": "string", "description": "who is looked for"}},
        "required": ["name"],
    }
    call = Call("find_read", {"name": "maria"})
    observation = here.act(call)
    assert (observation.status, observation.text, observation.data["result"]) == ("ok", '{"v":50}', {"v": 50})
    inner = expanded(call, observation)
    assert [(made.name, dict(made.arguments)) for made, _ in inner] == [
        ("find", {"name": "maria", "limit": 5}),
        ("read", {"id": 5}),
    ]
    turn = Turn(0, None, (), (), (), Message("assistant", "", (call,)), observations=(observation,))
    assert run_log(Trajectory(Task("t", ""), (turn,)), right=True) == RunLog(inner, True)
    assert not run_log(Trajectory(Task("t", ""), (turn,)), right=False).verified


def test_failures_and_budgets_of_steps_show() -> None:
    (one,) = mined([found("ann"), found("peter")])
    here = with_composites(session(total=3), (one,))
    failed = here.act(Call("find_read", {"name": "a name that is long"}))
    assert (failed.status, failed.text) == ("error", "read: ValueError: no such person")
    assert [row["status"] for row in failed.data["calls"]] == ["ok", "error"]
    refused = here.act(Call("find_read", {"name": "bo"}))
    assert (refused.status, len(refused.data["calls"])) == ("refused", 2)
    assert here.act(Call("find_read", {"nme": "bo"})).status == "malformed"
    with pytest.raises(ValueError, match="did you mean 'find'"):
        with_composites(session(), (Composite("x", (one.steps[0].__class__("fnd"),)),))
    assert invoke(here.tools[-1], Call("find_read", {"name": "bo"})).status == "refused"  # there is no session


def test_composites_are_replayed_and_idle_steps_found() -> None:
    """Correlation is no necessity: looking changes nothing, and finding is needed since its id is passed on."""
    runs = [found("ann", Call("look", {"at": "sky"})), found("peter", Call("look", {"at": "sky"}))]
    (one,) = mined(runs, shortest=3)
    assert [step.tool for step in one.steps] == ["find", "look", "read"]
    assert replayed(one, runs, lambda run: session()) == 1.0
    assert needless_steps(one, runs, lambda run: session()) == (1,)
    wrong = Composite(one.name, (*one.steps[:2], one.steps[2].__class__("read", {"id": ArgumentSource(constant=1)})))
    assert replayed(wrong, runs, lambda run: session()) == 0.0
    assert replayed(one, [log("find,read", False)], lambda run: session()) == 0.0


def test_composites_that_do_worse_than_their_steps_are_outdone() -> None:
    (one,) = mined([found("ann"), found("peter")])
    uses = {"find": (10, 7), "read": (10, 9), "find_read": (10, 8)}
    assert outdone(one, uses)  # 0.8 is below 0.9, of its best step
    assert not outdone(one, {**uses, "find_read": (10, 9)})
    assert not outdone(one, {**uses, "find_read": (4, 0)})  # too few calls to say
    assert not outdone(one, {"find_read": (10, 0)})


def test_contracts_of_first_and_last_step() -> None:
    (one,) = mined([found("ann"), found("peter")])
    contracts = {"find": Contract(pre=("len(args.name) > 0",)), "read": Contract(post=("result.v >= 0",))}
    assert contract_of(one, contracts).post == ("result.v >= 0",)
    assert contract_of(one, contracts).pre == ()  # the limit is no parameter of the composite
    free = composed(
        ("look", "find"), [run_of(Call("look", {"at": a}), Call("find", {"name": n})) for a, n in ("ab", "cd")]
    )
    assert contract_of(free, {"look": Contract(pre=("len(args.at) > 0",))}).pre == ("len(args.at) > 0",)
