"""Every world in the package keeps the promises of a world, and the suite catches those that do not."""

from __future__ import annotations

import re

import pytest
from tests.contracts import kinds, wrong_kinds
from tests.contracts.checks import Broken
from tests.toys import NOTE

from ferrule.core.records import Task
from ferrule.worlds.apis import Apis
from ferrule.worlds.facts import Facts
from ferrule.worlds.mixed import Mixed
from ferrule.worlds.session import Toolbox

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
    kinds.check_world(Toolbox((NOTE,)), [Task("t", "p", world="toolbox")])


def test_the_sound_world_passes() -> None:
    kinds.check_world(wrong_kinds.World())


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
