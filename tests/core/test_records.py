from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from ferrule.core.flows import Ask, Session, World, ask, use
from ferrule.core.records import Call, Image, Message, Observation, Reply, Task, Trajectory, Turn, plain_text
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.session import ToolSession


def test_records_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Task("t", "p").prompt = "q"  # type: ignore[misc]


def test_seconds_take_no_part_in_equality() -> None:
    assert Observation("x", seconds=1.0) == Observation("x", seconds=2.0)
    assert Observation("x") != Observation("x", "error")


def test_a_call_ran_when_its_status_says_so() -> None:
    ran = {status: Observation("", status).executed for status in ("ok", "error", "timeout")}  # type: ignore[arg-type]
    idle = {s: Observation("", s).executed for s in ("refused", "unknown_tool", "malformed")}  # type: ignore[arg-type]
    assert all(ran.values())
    assert not any(idle.values())


def test_plain_text_leaves_images_out() -> None:
    assert plain_text(Message("user", ("a", Image("x.png"), "b"))) == "ab"
    assert plain_text(Message("user", "ab")) == "ab"


def test_calls_of_a_path_come_in_order() -> None:
    def made(index: int) -> Turn:
        calls = (Call("a", id=f"{index}.0"), Call("b", id=f"{index}.1"))
        seen = tuple(Observation(f"{index}.{i}") for i in range(2))
        return Turn(index, None, (1,), (2, 3), (0.0, 0.0), Message("assistant", "", calls), observations=seen)

    path = Trajectory(Task("t", "p"), (made(0), made(1)))
    assert [(c.id, o.text) for c, o in path.calls] == [(x, x) for x in ("0.0", "0.1", "1.0", "1.1")]
    assert path.sampled_count == 4


def test_ask_and_use_pass_values_through() -> None:
    request, call = Ask((Message("user", "x"),)), Call("a")
    flow = ask(request)
    assert next(flow) is request
    with pytest.raises(StopIteration) as stop:
        flow.send([Reply(Message("assistant", "y"))])
    assert stop.value.value == (Reply(Message("assistant", "y")),)
    acting = use(call)
    assert next(acting).calls == (call,)  # type: ignore[union-attr]


def test_worlds_and_sessions_fit_their_protocols() -> None:
    world = Arithmetic(tools=("calculator",))
    assert isinstance(world, World)
    session = world.start(world.tasks("train", 1)[0])
    assert isinstance(session, Session)
    assert isinstance(session, ToolSession)
