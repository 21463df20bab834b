"""Invariant 6: a malformed, unknown, slow, crashing or lying tool call ends in an observation with a status."""

import sys
import time

import pytest
from tests.toys import WORLDS, Bench, Prober

from ferrule.chat.codec import codec_names
from ferrule.core.records import Call, Message, Tool
from ferrule.policies.scripted import Scripted, nonsense
from ferrule.rollout.drive import drive
from ferrule.rollout.record import dump, parse
from ferrule.tools.python import PythonSession

ANY = {"type": "object", "properties": {}}


def crash() -> None:
    raise RuntimeError("broken inside")


def leave() -> None:
    sys.exit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("no repr")


TROUBLE = {
    "slow": (lambda: time.sleep(30), "timeout"),
    "crash": (crash, "error"),
    "leave": (leave, "error"),
    "interrupt": (interrupt, "error"),
    "huge": (lambda: "x" * 10_000_000, "ok"),
    "nan": (lambda: float("nan"), "ok"),
    "object": (lambda: object(), "ok"),
    "bytes": (lambda: b"\xff\xfe", "ok"),
    "unprintable": (Unprintable, None),
}


@pytest.mark.parametrize("name", sorted(TROUBLE))
def test_whatever_a_tool_does_the_run_goes_on(name: str) -> None:
    run, status = TROUBLE[name]
    tool = Tool(name, "trouble", ANY, run=run, seconds=0.3)

    def script(ask, sample):
        done = sum(m.role == "assistant" for m in ask.messages)
        return Message("assistant", "", (Call(name, {}, id="call_0"),)) if done == 0 else Message("assistant", "yes")

    from ferrule.agents.react import ToolLoop

    world = Bench(more=(tool,))
    began = time.monotonic()
    (episode,) = drive(ToolLoop(), world.tasks("test", 1), world, Scripted(script))
    assert time.monotonic() - began < 10
    assert episode.trajectories[0].answer == "yes"
    ((_, seen),) = episode.trajectories[0].calls
    assert status is None or seen.status == status
    assert len(seen.text) < 3000
    assert parse(dump(episode))[0].trajectories[0].answer == "yes"


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (Call("nobody", {}), "unknown_tool"),
        (Call("", {}, problem="no JSON"), "malformed"),
        (Call("write", {"lin": "x"}), "malformed"),
        (Call("write", {}), "malformed"),
        (Call("write", {"line": "x"}), "ok"),
    ],
)
def test_calls_that_cannot_run_say_why(call: Call, status: str) -> None:
    world = Bench()
    seen = world.start(world.tasks("test", 1)[0]).act(call)
    assert seen.status == status
    assert seen.text


def test_a_spent_budget_refuses() -> None:
    world = Bench(calls=1)
    session = world.start(world.tasks("test", 1)[0])
    assert [session.act(Call("write", {"line": "x"})).status for _ in range(2)] == ["ok", "refused"]


@pytest.mark.parametrize("codec_name", codec_names())
@pytest.mark.parametrize("world_name", sorted(WORLDS))
def test_nonsense_never_crashes_or_hangs_a_run(world_name: str, codec_name: str) -> None:
    from ferrule.agents.react import ToolLoop
    from ferrule.chat.codec import codec

    world = WORLDS[world_name]
    inner = nonsense(11)
    policy = Scripted(lambda ask, sample: str(inner.generate([ask])[0][0].message.content), codec(codec_name))
    for agent in (ToolLoop(turns=4), Prober()):
        for episode in drive(agent, world.tasks("test", 3), world, policy, samples=2):
            assert not episode.problem


def test_time_limits_of_the_interpreter_hold_and_the_session_goes_on() -> None:
    session = PythonSession(seconds=1.0)
    began = time.monotonic()
    seen = session.run("print('so far', flush=True)\nwhile True: pass")
    assert time.monotonic() - began < 2.0 + 1.0
    assert seen.status == "timeout"
    assert "so far" in seen.text
    assert session.run("print(6 * 7)").text.strip().endswith("42")
    session.close()
