"""Every world in the package keeps the promises of a world, and the suite catches those that do not."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from tests.contracts import kinds, wrong_kinds
from tests.contracts.checks import Broken
from tests.toys import NOTE

from ferrule.core.demonstration import Demonstrates
from ferrule.core.records import Task
from ferrule.worlds.apis import Apis
from ferrule.worlds.facts import Facts
from ferrule.worlds.mixed import Mixed
from ferrule.worlds.named import generated
from ferrule.worlds.session import Toolbox
from ferrule.worlds.user import UserWorld

WORLDS = kinds.worlds("ferrule.worlds", "ferrule.papers")


def test_discovery_finds_the_basics() -> None:
    assert {"ferrule.worlds.arithmetic:Arithmetic", "ferrule.worlds.apis:Apis", "ferrule.worlds.facts:Facts"} <= set(
        WORLDS
    )


@pytest.mark.parametrize("name", WORLDS)
def test_world(name: str) -> None:
    kinds.check_world(WORLDS[name])


def test_worlds_made_of_others_and_of_tools() -> None:
    mixed = Mixed((Apis(), Facts()))
    kinds.check_world(mixed, mixed.tasks("train", 4))
    kinds.check_demonstrations(mixed)
    kinds.check_world(Toolbox((NOTE,)), [Task("t", "p", world="toolbox")])


def test_the_sound_world_passes() -> None:
    kinds.check_world(wrong_kinds.World())
    kinds.check_world(wrong_kinds.Demonstrating())


def test_every_generated_world_is_checked_and_has_reference_solutions() -> None:
    classes = {type(build()).__name__ for build in generated().values()}
    unseen = classes - {name.partition(":")[2] for name in WORLDS}
    assert not unseen, f"name these classes in the __all__ of their modules: {sorted(unseen)}"
    mute = {name for name, build in generated().items() if not isinstance(build(), Demonstrates)}
    assert not mute, f"worlds of the package show how their tasks are solved, with demonstrate(task): {sorted(mute)}"


def test_rows_with_calls_are_reference_solutions() -> None:
    calls = [{"name": "note", "parameters": {"text": "a"}}, {"name": "note", "arguments": {"text": "b"}}]
    tasks = tuple(
        Task(f"u/{i}", f"p{i}", ["1", "one"], "u", meta={"calls": calls, "verifier": "exact"}) for i in range(9)
    )
    world = UserWorld("u", {"train": tasks[:5], "test": tasks[5:]}, (NOTE,))
    kinds.check_demonstrations(world)
    assert [dict(call.arguments) for call in world.demonstrate(tasks[0]).calls] == [{"text": "a"}, {"text": "b"}]
    with pytest.raises(ValueError, match="no field 'calls'"):
        world.demonstrate(replace(tasks[0], meta={}))
    with pytest.raises(ValueError, match="only a regex for its answer"):
        world.demonstrate(replace(tasks[0], meta={"calls": calls, "verifier": "regex"}))
    with pytest.raises(ValueError, match="has no reference solutions"):
        Mixed((Toolbox((NOTE,)), Apis())).demonstrate(Task("t", "p", world="toolbox"))


@pytest.mark.parametrize(("promise", "world"), [(p, w) for p, ws in wrong_kinds.WORLDS.items() for w in ws])
def test_wrong_world_is_caught(promise: str, world: object) -> None:
    with pytest.raises(Broken, match=f"^{re.escape(promise)}"):
        kinds.check_world(world)  # type: ignore[arg-type]


def test_a_session_that_cannot_be_closed_twice_is_caught() -> None:
    class Once(wrong_kinds.World):
        def start(self, task: Task, seed: int = 0) -> object:  # type: ignore[override]
            session = super().start(task, seed)
            session.__class__ = wrong_kinds.CloseOnce
            return session

    with pytest.raises(RuntimeError, match="closed already"):
        kinds.check_world(Once(name="sound"))
