"""Sessions around sessions pass on where a call stands, so that recordings inside keep their keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from tests import toys

from ferrule.core.acting import Place, act
from ferrule.core.flows import Session, World
from ferrule.core.records import Call, Observation, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.tools.effects import Cached, Retrying
from ferrule.worlds.aliased import Aliased, aliases
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.gated import Gated
from ferrule.worlds.limited import Limited
from ferrule.worlds.shown import Shown
from ferrule.worlds.wrap import Offering, Wrapped

TOOL = Tool("look", "Look.", {"type": "object", "properties": {}}, run=lambda: "seen")


class Inner:
    """A session that remembers where its calls stood."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.tools = (TOOL,)

    def act(self, call: Call) -> Observation:
        raise AssertionError("the place was lost")

    def act_at(self, call: Call, place: Place) -> Observation:
        self.places.append(place)
        return Observation("seen")

    def fork(self) -> Session:
        return self

    def final(self) -> Mapping[str, str]:
        return {}

    def close(self) -> None:
        """Nothing is held."""


def aliased(inner: Session) -> Session:
    return Aliased(inner, aliases(inner.tools, seed=1))


def limited(inner: Session) -> Session:
    return Limited(inner, Budget(total=1))


def unchanged(inner: Session) -> Session:
    return Shown(inner, lambda observation: observation)


@pytest.mark.parametrize(
    "wrap", [Gated, Retrying, Cached, aliased, limited, unchanged, lambda s: Gated(Cached(Retrying(s)))]
)
def test_the_place_reaches_the_innermost(wrap: Callable[[Session], Session]) -> None:
    inner = Inner()
    session = wrap(inner)
    assert act(session, Call(session.tools[0].name), Place(3, 1)).text == "seen"
    assert inner.places == [Place(3, 1)]


def test_a_wrapped_world_has_its_tasks_and_wraps_every_session() -> None:
    world: World = toys.own_world()
    opened: list[tuple[str, int]] = []

    def wrap(session: Session, task: Task, seed: int) -> Session:
        opened.append((task.id, seed))
        return Retrying(session)

    wrapped = Wrapped(world, wrap)
    tasks = wrapped.tasks("train", 2)
    assert (wrapped.name, tasks) == (world.name, world.tasks("train", 2))
    session = wrapped.start(tasks[0], 7)
    assert isinstance(session, Retrying)
    assert opened == [(tasks[0].id, 7)]
    session.close()


def test_a_world_may_offer_other_tools() -> None:
    """The tasks are the same questions; what a session offers follows the task."""
    inside = Arithmetic()
    (plain,) = inside.tasks("test", 1, seed=3)
    for tools in ((), ("python",)):
        world = Offering(inside, tools)
        (task,) = world.tasks("test", 1, seed=3)
        assert (world.name, task.id, task.prompt, task.tools) == (inside.name, plain.id, plain.prompt, tools)
        session = world.start(task)
        assert tuple(tool.name for tool in session.tools) == tools
        session.close()
