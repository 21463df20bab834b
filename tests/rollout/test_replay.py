"""A recorded run is played again, byte for byte, with the network and the sandbox switched off."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.policies.test_endpoint import answer, choice, serving
from tests.toys import Bench, Prober, layout

from ferrule.agents.react import ToolLoop
from ferrule.core.acting import Place, act
from ferrule.core.flows import Flow, Session, World, use
from ferrule.core.records import Call, Observation, Task
from ferrule.policies.endpoint.endpoint import Endpoint
from ferrule.policies.endpoint.http import PolicyError
from ferrule.policies.recorded import recorded as recorded_policy
from ferrule.policies.scripted import nonsense
from ferrule.rollout.drive import Limits, adrive, drive
from ferrule.rollout.record import Episode, dump
from ferrule.sandbox import pool
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.cassette import Cassette
from ferrule.worlds.recorded import recorded

Driver = Callable[..., list[Episode]]


def under_asyncio(*args: Any, **more: Any) -> list[Episode]:
    return asyncio.run(adrive(*args, **more))


DRIVERS: dict[str, Driver] = {"batched": drive, "asyncio": under_asyncio}


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


class SwitchedOff(OSError):
    """The run reached for something that is off."""


@contextmanager
def nothing_but_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse internet sockets, new processes, and whatever would launch an interpreter."""
    made = socket.socket

    class Local(made):  # type: ignore[valid-type,misc]
        def __init__(self, family: int = -1, *args: Any, **more: Any) -> None:
            if family != socket.AF_UNIX:  # an event loop wakes itself by a pair of these
                raise SwitchedOff("a socket was opened")
            super().__init__(family, *args, **more)

    def off(*_: Any, **__: Any) -> Any:
        raise SwitchedOff("a process was started")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Local)
        patch.setattr(socket, "create_connection", off)
        patch.setattr(subprocess, "Popen", off)
        patch.setattr(os, "fork", off)
        patch.setattr(pool, "launch", off)
        patch.setattr(pool, "zygote", off)
        yield


def without_seconds(value: Any) -> Any:
    """The data of an episode line without its wall times."""
    if isinstance(value, dict):
        return {key: without_seconds(inner) for key, inner in value.items() if key != "seconds"}
    return [without_seconds(inner) for inner in value] if isinstance(value, list) else value


def lines(episodes: list[Episode]) -> list[str]:
    return [json.dumps(without_seconds(json.loads(dump(episode)))) for episode in episodes]


WORLD = Arithmetic(tools=("python",))
TASKS = WORLD.tasks("test", 3, levels=(3, 4))


def model(handler: Any, body: dict[str, Any], number: int) -> dict[str, Any]:
    """Three turns: two calls side by side, one that builds on them and one of a tool that is not there, an answer."""
    said = [message for message in body["messages"] if message["role"] == "assistant"]
    tag = body["seed"] % 1000
    codes = [[f"x = {tag}\nprint(x)", "y = [1, (2, 'three')]\ny"], ["print('x' in dir(), y)\n1 / 0"]]
    if len(said) == 2:
        return answer(choice(f"The answer is {tag}."))
    calls = [
        {"id": f"c{i}", "type": "function", "function": {"name": "python", "arguments": json.dumps({"code": code})}}
        for i, code in enumerate(codes[len(said)])
    ]
    if len(said) == 1:
        calls.append({"id": "c9", "type": "function", "function": {"name": "nobody", "arguments": "{broken"}})
    return answer(choice("thinking", "tool_calls", message={"tool_calls": calls}))


SETTINGS: dict[str, Any] = {"num_generations": 2, "seed": 7, "temperature": 0.5}


def record(path: Path, driver: Driver, agent: Any, world: World, policy: Any, **settings: Any) -> list[Episode]:
    tasks = TASKS if world is WORLD else world.tasks("train", 2)
    with Cassette(path, "record") as cassette:
        return driver(agent, tasks, recorded(world, cassette), recorded_policy(policy, cassette), **settings)


def replay(path: Path, driver: Driver, agent: Any, world: World, **settings: Any) -> list[Episode]:
    tasks = TASKS if world is WORLD else world.tasks("train", 2)
    cassette = Cassette(path, "replay")
    episodes = driver(agent, tasks, recorded(world, cassette), recorded_policy(None, cassette), **settings)
    assert cassette.misses == []
    return episodes


def test_a_run_with_real_tools_and_a_real_server_is_replayed_byte_for_byte(
    tmp_path: Path, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.jsonl"
    with serving(model) as wire, Endpoint(wire.url, "m") as policy:
        made = record(path, driver, ToolLoop(), WORLD, policy, **SETTINGS)
    seen = [o for episode in made for _, o in episode.trajectories[0].calls]
    assert {o.status for o in seen} == {"ok", "error", "malformed"}
    assert all(not episode.problem and episode.trajectories[0].answer for episode in made)
    with nothing_but_files(monkeypatch):
        for again in DRIVERS.values():
            played = replay(path, again, ToolLoop(), WORLD, **SETTINGS)
            assert lines(played) == lines(made)
            assert played == made


def test_what_is_switched_off_would_be_needed_without_the_cassette(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same run, live, fails at the network, and with replies from the cassette at the sandbox."""
    path = tmp_path / "run.jsonl"
    with serving(model) as wire, Endpoint(wire.url, "m", retries=0) as policy:
        made = record(path, drive, ToolLoop(), WORLD, policy, **SETTINGS)
    with nothing_but_files(monkeypatch):
        with Endpoint(wire.url, "m", retries=0) as policy, pytest.raises(PolicyError):
            drive(ToolLoop(), TASKS, WORLD, policy, **SETTINGS)
        with pytest.raises(
            PolicyError, match="other messages"
        ):  # other observations make other prompts, which are not recorded
            drive(ToolLoop(), TASKS, WORLD, recorded_policy(None, Cassette(path, "replay")), **SETTINGS)
    assert made


@pytest.mark.usefixtures("one_thread")
def test_a_run_of_the_pocket_model_is_replayed_byte_for_byte(
    tmp_path: Path, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ferrule.policies.local import load
    from ferrule.policies.pocket import WEIGHTS

    path, agent = tmp_path / "run.jsonl", ToolLoop(turns=3, max_tokens=64)
    made = record(path, driver, agent, WORLD, load(WEIGHTS), **SETTINGS)
    turns = [turn for episode in made for turn in episode.trajectories[0].turns]
    assert sum(len(turn.observations) for turn in turns) > 0
    assert all(turn.sampled and turn.given for turn in turns)
    with nothing_but_files(monkeypatch):
        for again in DRIVERS.values():
            assert lines(replay(path, again, agent, WORLD, **SETTINGS)) == lines(made)


@pytest.mark.parametrize("limit", [1, 2, 256])
def test_garbage_and_several_samples_per_ask_are_replayed_as_they_were(
    tmp_path: Path, driver: Driver, limit: int
) -> None:
    path, agent, settings = tmp_path / "run.jsonl", Prober(n=2), {**SETTINGS, "limits": Limits(episodes=limit)}
    made = record(path, driver, agent, Bench(), nonsense(3, renderer=layout()), **settings)
    for again in DRIVERS.values():
        assert lines(replay(path, again, agent, Bench(), **settings)) == lines(made)


# --------------------------------------------------------------------------------------------------------------- places


@dataclass
class Watching:
    """A session that remembers the places of its calls."""

    inner: Session
    seen: list[tuple[str, Place | None]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def act(self, call: Call) -> Observation:
        self.seen.append((call.id, None))
        return self.inner.act(call)

    def act_at(self, call: Call, place: Place) -> Observation:
        self.seen.append((call.id, place))
        return act(self.inner, call, place)


def test_drivers_say_where_a_call_stands(driver: Driver) -> None:
    """Turns count asks, positions count the calls since the last one, over several rounds of calls."""
    seen: list[tuple[str, Place | None]] = []

    class World(Bench):
        def start(self, task: Task, seed: int = 0) -> Session:
            return Watching(super().start(task, seed), seen)

    def agent(task: Task, session: Session) -> Flow[str | None]:
        yield from use(Call("write", {"line": "a"}, id="before"))
        inner = Prober(turns=2)(task, session)
        yield from inner
        yield from use(Call("write", {"line": "b"}, id="last"))
        return "done"

    driver(agent, World().tasks("train", 1), World(), nonsense(1, renderer=layout()))
    assert sorted(seen, key=lambda s: (s[1].turn, s[1].position) if s[1] else (-1, -1)) == [
        ("before", Place(0, 0)),
        ("call_0", Place(1, 0)),
        ("call_1", Place(1, 1)),
        ("call_0", Place(2, 0)),
        ("call_1", Place(2, 1)),
        ("last", Place(2, 2)),
    ]


def test_a_call_without_a_place_goes_the_plain_way() -> None:
    seen: list[tuple[str, Place | None]] = []
    session = Watching(Bench().start(Bench().tasks("train", 1)[0]), seen)
    assert act(session, Call("write", {"line": "a"}, id="x")).text == "1"
    assert act(session.inner, Call("write", {"line": "b"}), Place(1, 0)).text == "2"
    assert seen == [("x", None)]
