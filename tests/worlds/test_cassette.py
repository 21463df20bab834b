"""Cassettes of tool results: what goes in comes out, what was not recorded is said, and modes that run nothing."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.toys import Bench

from ferrule.core.acting import Place, act
from ferrule.core.exact import decode, encode
from ferrule.core.flows import Session
from ferrule.core.records import Artifact, Call, Observation, Task, Tool
from ferrule.tools.placeholder import placeholder
from ferrule.tools.schema import problem
from ferrule.worlds.cassette import Cassette
from ferrule.worlds.recorded import recorded
from ferrule.worlds.tape import Tape, rows

SAY = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def write(line: str) -> Call:
    return Call("write", {"line": line})


class Shut:
    """A world that must not be opened."""

    name = "bench"

    def __init__(self, world: Any) -> None:
        self._world = world

    def tasks(self, *args: Any, **more: Any) -> list[Task]:
        return self._world.tasks(*args, **more)  # type: ignore[no-any-return]

    def start(self, task: Task, seed: int = 0) -> Session:
        raise AssertionError("a replay opened the world inside")


TASK = Bench().tasks("train", 1)[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


def record(path: Path, world: Any, *steps: tuple[Call, Place | None], task: Task = TASK, seed: int = 0) -> list[Any]:
    """Record one episode of given calls; return what was seen and the final state."""
    with Cassette(path, "record") as cassette:
        session = recorded(world, cassette).start(task, seed)
        seen: list[Any] = [act(session, call, place) for call, place in steps]
        seen.append(session.final())
        session.close()
    return seen


def replayed(path: Path, task: Task = TASK, seed: int = 0) -> tuple[Session, Cassette]:
    cassette = Cassette(path, "replay")
    return recorded(Shut(Bench()), cassette).start(task, seed), cassette


# --------------------------------------------------------------------------------------------------------------- values

EXACT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.just("!"), inner, max_size=4)
        | st.dictionaries(st.integers() | st.tuples(st.text(max_size=2)), inner, max_size=3)
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Equal with equal types all the way down, and mappings in one order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return same(list(a), list(b)) and same(list(a.values()), list(b.values()))
    return bool(a == b) and (not isinstance(a, float) or math.copysign(1, a) == math.copysign(1, b))


@given(EXACT)
def test_values_come_back_with_their_types(value: Any) -> None:
    assert same(decode(json.loads(json.dumps(encode(value)))), value)


def test_awkward_values_come_back() -> None:
    infinite, long = [math.inf, -math.inf], [10**5000, -(10**5000)]
    for value in (*infinite, *long, "\ud800 half", {1, 2}, frozenset({"a"}), bytearray(b"x"), {"!": 1}, -0.0):
        back = decode(json.loads(json.dumps(encode(value))))
        assert back == value
        assert type(back) is type(value)
    assert math.isnan(decode(encode(math.nan)))


def test_what_has_no_exact_form_is_kept_as_its_text() -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    assert decode(encode(circle)) == [1, "..."]
    deep: Any = 0
    for _ in range(5000):
        deep = [deep]
    assert "..." in json.dumps(encode(deep))
    assert decode(encode(complex(1, 2))) == "(1+2j)"
    with pytest.raises(ValueError, match="unknown kind 'surprise'"):
        decode({"!": "surprise"})


OBSERVATIONS = (
    Observation("ok"),
    Observation("boom \ud800", "error", data={"exception": "E", "line": 3}),
    Observation("late", "timeout", seconds=1.25),
    Observation("", "refused", data=(1, [2.5, None], {"k": b"\x00"}), terminal=True),
    Observation(
        "pic", artifacts=(Artifact("a.png", "image/png", 3, "data:image/png;base64,AAAA"),), repairs=("number:x",)
    ),
)


@pytest.mark.parametrize("seen", OBSERVATIONS, ids=lambda o: o.status + o.text[:3])
def test_observations_come_back_whole(path: Path, seen: Observation) -> None:
    world = Bench(more=(Tool("say", "", SAY, run=lambda text: seen),))
    before, _ = record(path, world, (Call("say", {"text": "x"}), Place(1, 0)))
    session, _ = replayed(path)
    after = act(session, Call("say", {"text": "x"}), Place(1, 0))
    assert after == before
    assert after.seconds == before.seconds
    assert (after.text, after.data, after.artifacts) == (
        seen.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
        seen.data,
        seen.artifacts,
    )


# ---------------------------------------------------------------------------------------------------- record and replay


def test_a_replay_opens_nothing_and_answers_the_same(path: Path) -> None:
    steps = [(write("a"), Place(1, 0)), (write("b"), Place(1, 1)), (Call("nobody", {}), Place(2, 0))]
    seen = record(path, Bench(), *steps)
    session, cassette = replayed(path)
    assert [tool.name for tool in session.tools] == ["write"]
    assert session.tools[0] == Bench().start(TASK).tools[0]
    assert session.tools[0].run(line="x").status == "refused"
    assert [act(session, *step) for step in steps] == seen[:-1]
    assert session.final() == seen[-1] == {"lines": ["a", "b"]}
    session.close()
    session.close()
    assert cassette.misses == []


def test_places_tell_equal_calls_apart_in_whatever_order_they_are_played(path: Path) -> None:
    places = [Place(1, 0), Place(1, 1), Place(2, 0)]
    seen = record(path, Bench(), *((write("same"), place) for place in places))
    assert [o.text for o in seen[:-1]] == ["1", "2", "3"]
    session, _ = replayed(path)
    assert [act(session, write("same"), place).text for place in reversed(places)] == ["3", "2", "1"]


def test_calls_without_a_place_are_played_by_what_they_are(path: Path) -> None:
    record(path, Bench(), (write("a"), None), (write("b"), None), (write("a"), None))
    session, _ = replayed(path)
    assert [session.act(write(line)).text for line in "baa"] == ["2", "1", "3"]
    again = session.act(write("a"))
    assert again.status == "refused"
    assert "for the 3. time" in again.text


def test_the_order_of_arguments_does_not_matter_but_their_values_do(path: Path) -> None:
    two = Tool("two", "", {"type": "object", "properties": {"a": {}, "b": {}}}, run=lambda a, b: f"{a}{b}")
    record(path, Bench(more=(two,)), (Call("two", {"a": 1, "b": 2}), Place(1, 0)))
    session, cassette = replayed(path)
    assert act(session, Call("two", {"b": 2, "a": 1}), Place(1, 0)).text == "12"
    other = act(session, Call("two", {"a": 1, "b": 3}), Place(1, 0))
    assert other.status == "refused"
    assert 'turn 1, call 0 is two({"a":1,"b":3}), recorded is two({"a":1,"b":2})' in other.text
    assert cassette.misses == [other.text]
    assert act(session, Call("two", {"a": 1, "b": 2}, problem="no JSON"), Place(1, 0)).status == "refused"


@pytest.mark.parametrize(
    ("task", "seed", "call", "place", "said"),
    [
        (
            "train/0/0",
            0,
            write("b"),
            Place(4, 0),
            'turn 4, call 0, write({"line":"b"}); nearest recorded: turn 2, call 1',
        ),
        ("train/0/0", 0, write("new"), Place(3, 2), 'nearest recorded: turn 2, call 1, write({"line":"b"})'),
        ("train/0/0", 9, write("a"), Place(1, 0), "the task is recorded with the seeds 0"),
        ("train/0/7", 0, write("a"), Place(1, 0), "the episode is not recorded, the nearest task is 'train/0/0'"),
    ],
)
def test_a_miss_names_the_key_and_the_nearest_recorded(
    path: Path, task: str, seed: int, call: Call, place: Place, said: str
) -> None:
    record(path, Bench(), (write("a"), Place(1, 0)), (write("b"), Place(2, 1)))
    session, cassette = replayed(path, replace(TASK, id=task), seed)
    seen = act(session, call, place)
    assert seen.status == "refused"
    assert said in seen.text
    assert f"task {task!r}, seed {seed}" in seen.text
    assert str(path) in seen.text
    assert cassette.misses == [seen.text]


def test_an_episode_that_was_not_recorded_has_no_tools_and_no_final_state(path: Path) -> None:
    record(path, Bench())
    session, cassette = replayed(path, seed=1)
    assert session.tools == ()
    with pytest.raises(LookupError, match="final state of task 'train/0/0', seed 1"):
        session.final()
    assert len(cassette.misses) == 1


def test_branches_are_kept_apart(path: Path) -> None:
    with Cassette(path, "record") as cassette:
        session = recorded(Bench(), cassette).start(TASK)
        act(session, write("a"), Place(1, 0))
        first, second = session.fork(), session.fork()
        inner = second.fork()
        texts = [
            [s.act(write(line)).text for line in lines] for s, lines in ((first, "xy"), (second, "x"), (inner, "x"))
        ]
        assert texts == [["2", "3"], ["2"], ["2"]]
        act(session, write("b"), Place(2, 0))
        finals = [s.final() for s in (session, first, second, inner)]
    session, cassette = replayed(path)
    first, second = session.fork(), session.fork()
    inner = second.fork()
    assert first.act(write("y")).text == "3"
    assert [s.act(write("x")).text for s in (first, second, inner)] == ["2", "2", "2"]
    assert [s.final() for s in (session, first, second, inner)] == finals
    assert finals[0] == {"lines": ["a", "b"]}
    assert finals[1] == {"lines": ["a", "x", "y"]}
    assert not cassette.misses
    assert "branch 1.0, the call" in inner.act(write("z")).text


def test_calls_that_run_side_by_side_are_recorded_whole(path: Path) -> None:
    world, barrier = (
        Bench(more=(Tool("say", "", SAY, run=lambda text: barrier.wait() and text),), calls=64),
        threading.Barrier(8),
    )
    calls = [(Call("say", {"text": "x" * 5000 + str(i)}), Place(1, i)) for i in range(8)]
    with Cassette(path, "record") as cassette, ThreadPoolExecutor(8) as pool:
        session = recorded(world, cassette).start(TASK)
        seen = list(pool.map(lambda step: act(session, *step), calls))
    session, _ = replayed(path)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda step: act(session, *step), calls)) == seen
    assert len(seen) == 8


@dataclass
class Growing:
    """A session in which every call puts another tool on offer."""

    made: list[Tool] = field(default_factory=list)

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(self.made)

    def act(self, call: Call) -> Observation:
        self.made.append(Tool(f"t{len(self.made)}", "", {}, run=str))
        return Observation(str(len(self.made)))

    def fork(self) -> Session:
        return Growing(list(self.made))

    def final(self) -> Mapping[str, Any]:
        raise RuntimeError("nobody knows")

    def close(self) -> None:
        pass


class GrowingWorld(Shut):
    def start(self, task: Task, seed: int = 0) -> Session:
        return Growing()


def test_tools_on_offer_follow_the_recording_and_errors_of_the_end_come_back(path: Path) -> None:
    with Cassette(path, "record") as cassette:
        session = recorded(GrowingWorld(Bench()), cassette).start(TASK)
        for i in range(3):
            act(session, Call("t", {}), Place(1, i))
        with pytest.raises(RuntimeError, match="nobody knows"):
            session.final()
    session, _ = replayed(path)
    assert session.tools == ()
    offered: list[list[str]] = []
    for i in (0, 2, 1):  # the last call of a turn may be played before the one before it
        act(session, Call("t", {}), Place(1, i))
        offered.append([tool.name for tool in session.tools])
    assert offered == [["t0"], ["t0", "t1", "t2"], ["t0", "t1", "t2"]]
    with pytest.raises(RuntimeError, match="nobody knows") as error:
        session.final()
    assert type(error.value).__name__ == "RuntimeError"


def test_a_session_that_raises_is_recorded_as_what_the_driver_would_see(path: Path) -> None:
    class Raising(Growing):
        def act(self, call: Call) -> Observation:
            if call.name == "exit":
                raise SystemExit(3)
            return "text"  # type: ignore[return-value]

    class World(Shut):
        def start(self, task: Task, seed: int = 0) -> Session:
            return Raising()

    world = World(Bench())
    direct = [act(world.start(TASK), Call(name), Place(1, 0)) for name in ("exit", "other")]
    assert [o.text for o in direct] == ["SystemExit: 3", "the session answered with str, not Observation"]
    with Cassette(path, "record") as cassette:
        session = recorded(world, cassette).start(TASK)
        seen = [act(session, Call(name), Place(1, i)) for i, name in enumerate(("exit", "other"))]
    session, _ = replayed(path)
    assert [act(session, Call(name), Place(1, i)) for i, name in enumerate(("exit", "other"))] == seen == direct


# -------------------------------------------------------------------------------------------------- files and recordings


def test_repeated_episodes_are_played_in_their_order(path: Path) -> None:
    with Cassette(path, "record") as cassette:
        for line in ("one", "two"):
            session = recorded(Bench(), cassette).start(TASK)
            act(session, write(line), Place(1, 0))
            session.final()
    cassette = Cassette(path, "replay")
    found = [recorded(Shut(Bench()), cassette).start(TASK).final() for _ in range(3)]
    assert found == [{"lines": ["one"]}, {"lines": ["two"]}, {"lines": ["two"]}]


def test_a_later_recording_in_the_same_file_counts_where_both_have_an_episode(path: Path) -> None:
    record(path, Bench(), (write("old"), Place(1, 0)), (write("older"), Place(2, 0)))
    record(path, Bench(), (write("kept"), Place(1, 0)), seed=5)
    record(path, Bench(), (write("new"), Place(1, 0)))
    session, _ = replayed(path)
    assert session.final() == {"lines": ["new"]}
    assert act(session, write("older"), Place(2, 0)).status == "refused"
    assert replayed(path, seed=5)[0].final() == {"lines": ["kept"]}


def test_every_call_is_in_the_file_once_it_was_answered(path: Path) -> None:
    with Cassette(path, "record") as cassette:
        session = recorded(Bench(), cassette).start(TASK)
        for i in range(3):
            act(session, write(str(i)), Place(1, i))
            assert sum(row["kind"] == "call" for _, row in rows(path)) == i + 1


KILLED = """
import sys
from pathlib import Path
from tests.toys import Bench
from ferrule.core.acting import Place, act
from ferrule.core.records import Call
from ferrule.worlds.cassette import Cassette
from ferrule.worlds.recorded import recorded
world = Bench(calls=10**6)
session = recorded(world, Cassette(Path(sys.argv[1]), "record")).start(world.tasks("train", 1)[0])
for i in range(10**6):
    act(session, Call("write", {"line": "x" * 300}), Place(1, i))
    print(i, flush=True)
"""


def test_a_killed_recording_keeps_all_it_answered_and_is_continued(path: Path) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], cwd=root, stdout=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 40:
                break
        process.send_signal(signal.SIGKILL)
        answered = [int(line), *(int(rest) for rest in process.stdout if rest.endswith("\n"))][-1]
    session, _ = replayed(path)
    call = Call("write", {"line": "x" * 300})
    assert [act(session, call, Place(1, i)).text for i in range(answered + 1)] == [
        str(i + 1) for i in range(answered + 1)
    ]
    with path.open("ab") as file:
        file.write(b'{"kind":"call","epi')  # as a write that was cut off would leave it
    assert act(replayed(path)[0], call, Place(1, answered)).status == "ok"
    record(path, Bench(), (write("after"), Place(1, 0)), seed=1)
    assert replayed(path, seed=1)[0].final() == {"lines": ["after"]}
    assert act(replayed(path)[0], call, Place(1, 0)).text == "1"


def test_files_that_are_no_cassettes_are_refused_with_the_line(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="record one first"):
        Cassette(path, "replay")
    for text, said in (
        ('{"kind": "start"}\n', "is not a cassette"),
        ("nonsense\n", "line 1: not a line of a cassette"),
        ("[1]\n", "line 1"),
        ('{"kind": "cassette", "version": 99}\n', "version 99"),
        ('{"kind": "cassette", "version": 1}\n{"kind": "call"}\n', "line 2"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            Cassette(path, "replay")


def test_settings_that_could_not_work_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'replay'"):
        Cassette("x", "repaly")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs a path"):
        Cassette(mode="record")
    with pytest.raises(ValueError, match=r"dummy would do nothing in the mode 'refuse'"):
        Cassette(mode="refuse", dummy="x")


def test_a_closed_tape_takes_nothing(path: Path) -> None:
    tape = Tape(path)
    tape.close()
    tape.close()
    with pytest.raises(ValueError, match="is closed"):
        tape.write({})


# ---------------------------------------------------------------------------------------------------------- other modes


def test_live_passes_the_world_through() -> None:
    world = Bench()
    session = recorded(world, Cassette()).start(TASK)
    assert session is world.opened[0]
    assert recorded(world, Cassette()).name == "bench"
    assert recorded(world, Cassette()).tasks("train", 2) == world.tasks("train", 2)


@pytest.fixture
def calls() -> list[str]:
    return []


def test_refuse_runs_nothing(calls: list[str]) -> None:
    world = Bench(more=(Tool("say", "", SAY, run=lambda text: calls.append(text)),))
    session = recorded(world, Cassette(mode="refuse")).start(TASK)
    for call in (Call("say", {"text": "x"}), Call("nobody"), Call("say", problem="?")):
        assert act(session, call, Place(1, 0)).status == "refused"
    assert session.fork().act(write("x")).status == "refused"
    assert session.final() == {"lines": []}
    assert [tool.name for tool in session.tools] == ["write", "say"]
    session.close()
    assert (calls, world.states[0].closed) == ([], 1)


def test_dummy_answers_without_running(calls: list[str]) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}
    tools = (
        Tool("count", "", SAY, run=lambda text: calls.append(text), output=schema),
        Tool("end", "", SAY, run=lambda text: calls.append(text), terminal=True),
    )
    session = recorded(Bench(more=tools), Cassette(mode="dummy")).start(TASK)
    seen = [session.act(Call(name, {"text": "x"})) for name in ("count", "end", "nobody")]
    assert [(o.text, o.status, o.data, o.terminal) for o in seen] == [
        ('{"n":3}', "ok", {"n": 3}, False),
        ("ok", "ok", None, True),
        ("unknown tool 'nobody'", "unknown_tool", None, False),
    ]
    assert session.act(Call("count", problem="half")).status == "malformed"
    fixed = recorded(Bench(more=tools), Cassette(mode="dummy", dummy="nothing")).start(TASK)
    assert fixed.act(Call("count", {"text": "x"})).text == "nothing"
    assert calls == []


SCHEMAS: tuple[Any, ...] = (
    {"type": "string", "minLength": 7},
    {"type": "string", "maxLength": 2},
    {"type": "integer", "minimum": 5, "maximum": 5},
    {"type": "integer", "exclusiveMinimum": 0.5, "maximum": 3},
    {"type": "integer", "maximum": -4},
    {"type": "number", "exclusiveMinimum": 0},
    {"type": "number", "exclusiveMaximum": 0},
    {"type": "number", "minimum": 0.25, "exclusiveMaximum": 0.5},
    {"type": ["null", "boolean"]},
    {"type": "null"},
    {"enum": ["b", "a"]},
    {"const": 0},
    {"type": "array", "items": {"type": "integer", "minimum": 2}, "minItems": 2},
    {"anyOf": [{"type": "array"}, {"type": "null"}]},
    {
        "oneOf": [{"$ref": "#/$defs/p"}],
        "$defs": {"p": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
    },
    {"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"type": "string"}}}]},
    {
        "type": "object",
        "properties": {"t": {"$ref": "#"}, "n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    },
    {},
    True,
)


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_placeholders_fit_their_schema(schema: Any) -> None:
    root = schema if isinstance(schema, dict) else {}
    assert problem(placeholder(schema), schema, root) == ""


def test_placeholders_prefer_what_the_schema_shows() -> None:
    assert placeholder({"type": "integer", "default": 7}) == 7
    assert placeholder({"type": "string", "examples": ["Rome"]}) == "Rome"
    assert placeholder({"type": "string", "format": "date"}) == "2000-01-01"
    assert placeholder({"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]}) is not None
