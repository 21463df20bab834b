"""The knapsack played by code, in the restricted language and in isolated interpreters: two kinds of state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation
from ferrule.sandbox.restricted import Restricted
from ferrule.worlds.knapsack import Interpret, Knapsack, isolated
from ferrule.worlds.knapsack_items import instance_of

WORLD = Knapsack(face="code", interpret=Restricted)
RUNNERS = [pytest.param(Restricted, id="restricted"), pytest.param(isolated, id="isolated")]


def run(session: Session, code: str) -> Observation:
    return session.act(Call("python", {"code": code}))


@pytest.mark.parametrize("interpret", RUNNERS)
@pytest.mark.parametrize("persistent", [True, False])
def test_interpreter_state_and_tool_state_are_two_things(interpret: Interpret, persistent: bool) -> None:
    """x = 3, then print(x): 3 or a NameError. Inspections count on in both runtimes; a second look is free."""
    world = replace(WORLD, persistent=persistent, interpret=interpret)
    (task,) = world.tasks("train", 1, levels=[1])
    session = world.start(task)
    try:
        assert run(session, "x = 3\na = inspect(list_items()[0])").status == "ok"
        observation = run(session, "print(x)")
        if persistent:
            assert (observation.status, observation.data["stdout"], observation.data["globals"]) == (
                "ok",
                "3\n",
                ["a", "x"],
            )
        else:
            assert (observation.status, observation.data["kind"], observation.data["globals"]) == (
                "error",
                "NameError",
                [],
            )
        run(session, "inspect(list_items()[0])\ninspect(list_items()[1])")
        assert len(session.final()["inspected"]) == 2
    finally:
        session.close()


@pytest.mark.parametrize("interpret", RUNNERS)
def test_errors_of_the_functions_reach_the_code(interpret: Interpret) -> None:
    world = replace(WORLD, interpret=interpret)
    (task,) = world.tasks("train", 1, levels=[1])
    session = world.start(task)
    try:
        code = "try:\n take_item('nothing')\nexcept ValueError as error:\n print('refused')"
        code = code.replace(" as error", "")
        assert run(session, code).data["stdout"] == "refused\n"
        assert run(session, "take_item('nothing')").data["kind"] == "ValueError"
        instance = instance_of(task.id)
        barred = [item.id for item in instance.items if item.kind not in instance.allowed]
        if barred:
            assert run(session, f"take_item({barred[0]!r})").data["kind"] == "PermissionError"
        best = [item.id for item in instance.best]
        observation = run(session, f"for i in {best}: take_item(i)\nfinish()")
        assert observation.terminal
        assert session.final()["solved"]
    finally:
        session.close()


@pytest.mark.parametrize("interpret", RUNNERS)
def test_a_stale_global_cannot_hide_a_tool(interpret: Interpret) -> None:
    world = replace(WORLD, interpret=interpret)
    (task,) = world.tasks("train", 1, levels=[1])
    session = world.start(task)
    try:
        run(session, "inspect = 3\ntake_item = None")
        assert run(session, "print(len(inspect(list_items()[0])) > 10)").data["stdout"] == "True\n"
    finally:
        session.close()


@pytest.mark.parametrize("interpret", RUNNERS)
def test_branches_share_neither_variables_nor_the_knapsack(interpret: Interpret) -> None:
    world = replace(WORLD, interpret=interpret)
    (task,) = world.tasks("train", 1, levels=[1])
    one, first = world.start(task), instance_of(task.id).best[0].id
    run(one, "x = 1")
    two = one.fork()
    try:
        run(two, f"x = 2\ntake_item({first!r})")
        assert run(one, "print(x)").data["stdout"] == "1\n"
        assert run(two, "print(x)").data["stdout"] == "2\n"
        assert (one.final()["taken"], two.final()["taken"]) == ([], [first])
    finally:
        one.close()
        two.close()


def test_code_cannot_reach_private_items_or_change_what_was_taken() -> None:
    """What is inside the interpreter are stubs: no object of the world is reachable from them."""
    world = replace(WORLD, interpret=isolated)
    (task,) = world.tasks("train", 1, levels=[1])
    session = world.start(task)
    instance = instance_of(task.id)
    try:
        code = (
            "import gc\n"
            "texts = [repr(o) for o in gc.get_objects() if type(o).__name__ in ('Vault', 'Instance', 'Item')]\n"
            "own = getattr(take_item, '__self__', None)\n"
            "print(texts, type(own).__module__.startswith('ferrule.worlds'))"
        )
        assert run(session, code).data["stdout"] == "[] False\n"
        run(session, "list_items().clear()")
        assert len(run(session, "list_items()").data["value"]) >= len(instance.items)
        assert session.final()["taken"] == []
    finally:
        session.close()
