"""Invariant 6: a malformed, unknown, slow, crashing or lying tool call ends in an observation with a status."""

import sys
import time

import pytest
from tests.limits import LATE
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
    assert time.monotonic() - began < 0.3 + LATE
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
        for episode in drive(agent, world.tasks("test", 3), world, policy, num_generations=2):
            assert not episode.problem


def test_time_limits_of_the_interpreter_hold_and_the_session_goes_on() -> None:
    session = PythonSession(seconds=1.0)
    began = time.monotonic()
    seen = session.run("print('so far', flush=True)\nwhile True: pass")
    assert time.monotonic() - began < 1.0 + LATE
    assert seen.status == "timeout"
    assert "so far" in seen.text
    assert session.run("print(6 * 7)").text.strip().endswith("42")
    session.close()


def running(marker: str) -> list[int]:
    """Processes of this machine whose command line holds a text."""
    from pathlib import Path

    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker in path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_the_whole_process_group_dies_at_the_time_limit() -> None:
    """A child that outlives the call, started through the tool loop, is gone when the observation arrives."""
    from ferrule.agents.react import ToolLoop

    marker = "31337.4242"
    python = PythonSession(seconds=2.0, allow_processes=True)
    code = (
        f"import subprocess\np = subprocess.Popen(['sleep', '{marker}'])\nprint('started', p.poll(), flush=True)\n"
        "while True: pass"
    )

    def script(ask, sample):
        done = sum(m.role == "assistant" for m in ask.messages)
        return Message("assistant", "", (Call("python", {"code": code}, id="call_0"),)) if done == 0 else "yes"

    world = Bench(more=(python.tool,))
    (episode,) = drive(ToolLoop(), world.tasks("test", 1), world, Scripted(script))
    ((_, seen),) = episode.trajectories[0].calls
    assert seen.status == "timeout"
    assert "started None" in seen.text
    deadline = time.monotonic() + 5  # the kernel may take a moment to take a killed process off the list
    while running(f"sleep {marker}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running(f"sleep {marker}") == []
    python.close()


DEEP = "[" * 230 + "]" * 230
BLOWS = {
    "half a surrogate": '{"name": "write", "arguments": {"line": "a\\ud800b"}}',
    "half a surrogate as a name": '{"name": "\\ud800", "arguments": {}}',
    "half a surrogate as an argument": '{"name": "write", "arguments": {"\\udfff": 1}}',
    "deep": f'{{"name": "write", "arguments": {{"line": {DEEP}}}}}',
    "very deep": '{"name": "write", "arguments": {"line": %s}}' % ("[" * 100_000),
    "long number": '{"name": "write", "arguments": {"line": %s}}' % ("9" * 5000),
    "not a number": '{"name": "write", "arguments": {"line": NaN, "x": Infinity}}',
    "too large": '{"name": "write", "arguments": {"line": 1e999}}',
    "null byte": '{"name": "write\\u0000", "arguments": {"line": "\\u0000"}}',
    "list": '{"name": "write", "arguments": ["line"]}',
    "text": '{"name": "write", "arguments": "line"}',
    "name of another type": '{"name": ["write"], "arguments": {}}',
    "twice the key": '{"name": "write", "name": "x", "arguments": {}, "arguments": {"line": "y"}}',
    "end tokens": '{"name": "write", "arguments": {"line": "<|end|><|assistant|></tool_call>"}}',
}


@pytest.mark.parametrize("name", sorted(BLOWS))
def test_calls_made_to_break_things_are_answered_stored_and_trained_on(name: str, tmp_path, one_thread) -> None:
    """The whole way: the model writes it, the call is answered, the next prompt is encoded, the episode reloads."""
    from tests.toys import layout, tiny_policy

    from ferrule.agents.react import ToolLoop
    from ferrule.rollout.record import append, load

    policy = tiny_policy()
    generate = policy.generate

    def forced(asks):
        out = []
        for ask, replies in zip(asks, generate(asks), strict=True):
            text = f"<tool_call>{BLOWS[name]}</tool_call>" if len(ask.messages) == 1 else "done"
            ids = tuple(policy.encode(text))
            message = layout().codec.read(text)
            given = replies[0].given
            out.append([type(replies[0])(message, given, ids, (-1.0,) * len(ids), "stop")])
        return out

    policy.generate = forced
    world = Bench()
    (episode,) = drive(ToolLoop(), world.tasks("test", 1), world, policy)
    assert episode.trajectories[0].answer == "done"
    assert not episode.problem
    ((_, seen),) = episode.trajectories[0].calls
    assert seen.status in ("ok", "malformed", "unknown_tool")
    seen.text.encode()
    append(tmp_path / "episodes.jsonl", [episode])
    ((again, _),) = load(tmp_path / "episodes.jsonl")
    assert again.trajectories[0].turns[0].sampled == episode.trajectories[0].turns[0].sampled


def test_an_async_tool_and_its_own_timeout() -> None:
    import asyncio

    async def slow() -> str:
        await asyncio.sleep(60)
        return "late"

    async def gives_up() -> str:
        raise TimeoutError("the server did not answer")

    world = Bench(
        more=(Tool("slow", "", ANY, run=slow, seconds=0.2), Tool("server", "", ANY, run=gives_up, seconds=5.0))
    )
    session = world.start(world.tasks("test", 1)[0])
    assert session.act(Call("slow")).status == "timeout"
    assert session.act(Call("server")).status == "error"


def test_a_model_that_talks_nonsense_can_be_trained(tmp_path, one_thread) -> None:
    """A whole step: sampling, credit, update, logs and the episode file, with ids of a real tokenizer."""
    from tests.toys import layout, tiny_policy
    from tests.train.pieces import recipe

    from ferrule.agents.react import ToolLoop
    from ferrule.rollout.record import load
    from ferrule.train.loop import train
    from ferrule.train.settings import Settings

    policy, inner = tiny_policy(), nonsense(2, layout().codec)
    generate = policy.generate

    def forced(asks):
        out = []
        for ask, replies in zip(asks, generate(asks), strict=True):
            message = inner.generate([ask])[0][0].message
            ids = tuple(policy.encode(layout().codec.write(message)))
            out.append([type(replies[0])(message, replies[0].given, ids, (-1.0,) * len(ids), "stop")])
        return out

    policy.generate = forced
    for name in ("apis", "arithmetic"):
        settings = Settings(max_steps=1, per_device_train_batch_size=8, gradient_accumulation_steps=1)
        train(recipe(agent=ToolLoop(turns=3)), WORLDS[name], policy, settings, tmp_path / name)
        assert len(list(load(tmp_path / name / "episodes.jsonl"))) == 8
