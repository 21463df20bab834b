"""Episodes as lines: what is written reloads to equal objects, whatever the model, tools and worlds left in them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.toys import WORLDS, Prober, layout

from ferrule.core.records import Call, Image, Message, Observation, Span, Task, Trajectory, Turn
from ferrule.policies.scripted import nonsense
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode, append, dump, load, parse, save


def episode(data: Any = None, *, text: str = "seen", arguments: Any = None, final: Any = None) -> Episode:
    task = Task("t", "p", answer=4, tools=("a",), meta={"level": 1, "state": {"x": [1, 2]}})
    reply = Message("assistant", "x", (Call("a", arguments or {}, "call_0", raw="<x>", repairs=("trailing comma",)),))
    seen = Observation(text, "error", data=data, seconds=1.5, repairs=("number:a",), terminal=True)
    first = Turn(0, None, (1, 2), (3, 4), (-0.5, -1e-9), reply, (Message("user", "p"),), (seen,), (Span("call", 0, 2),))
    image = Message("user", ("look", Image("x.png")))
    left = Turn(1, 0, (5,), (6,), (-0.25,), Message("assistant", "l"), (image,), finish="length")
    right = Turn(2, 0, (5,), (7,), (-0.75,), Message("assistant", "r"), role="judge")
    paths = (
        Trajectory(task, (first, left), "4", "answer", final=final or {"x": [1, 2]}),
        Trajectory(task, (first, right), None, "cancelled", role="judge"),
    )
    return Episode(task, 3, 2**62 + 1, paths, "trouble", True, 0.25)


def test_a_tree_reloads_to_equal_objects() -> None:
    whole = episode({"rows": [1, 2.5, None, True, "x"]})
    back, extra = parse(dump(whole, {"step": 3, "scores": [{"value": 0.5}]}))
    assert back == whole
    assert back.trajectories[0].turns[0] is back.trajectories[1].turns[0]
    assert (back.seed, back.seconds) == (2**62 + 1, 0.25)
    assert extra == {"step": 3, "scores": [{"value": 0.5}]}


def test_a_turn_is_written_once() -> None:
    assert dump(episode()).count('"call_0"') == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.text(), st.dictionaries(st.text(), JSON, max_size=3))
def test_any_json_data_reloads_equal(data: Any, text: str, arguments: Any) -> None:
    """Strings without half surrogates: those have no UTF-8 form (see below)."""
    whole = episode(data, text=text, arguments=arguments, final={"data": data})
    line = dump(whole)
    assert "\n" not in line
    assert parse(line)[0] == whole


def test_numbers_that_are_no_numbers_survive() -> None:
    back = parse(dump(episode([math.inf, -math.inf, math.nan])))[0]
    low, high, odd = back.trajectories[0].turns[0].observations[0].data
    assert (low, high, math.isnan(odd)) == (math.inf, -math.inf, True)


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


class Silent:
    def __repr__(self) -> str:
        raise RuntimeError("not me")


def circle() -> list[Any]:
    out: list[Any] = [1]
    out.append(out)
    return out


def deep(depth: int) -> list[Any]:
    out: list[Any] = []
    for _ in range(depth):
        out = [out]
    return out


EXOTIC = {
    "text bytes": b"abc",
    "other bytes": b"\xff\xfe\x00",
    "set": {1},
    "tuple keys": {(1, 2): "x"},
    "number keys": {1: "x", None: "y"},
    "object": Odd(),
    "object keys": {Odd(): 1},
    "object that cannot be shown": Silent(),
    "circle": circle(),
    "depth": deep(5000),
    "half surrogate": "a\ud800b",
    "half surrogate key": {"\udfff": "\ud800"},
    "huge number": 10**5000,
    "complex": 1 + 2j,
    "generator": (i for i in range(3)),
    "exception": ValueError("x"),
    "type": int,
    "array": __import__("numpy").arange(3),
}


@pytest.mark.parametrize("name", EXOTIC)
def test_data_without_a_json_form_is_written_as_text(name: str) -> None:
    """Nothing a tool returns may keep an episode from being stored; all the rest of it stays exact."""
    whole = episode(EXOTIC[name])
    back = parse(dump(whole, {"note": EXOTIC[name]}))[0]
    seen, original = back.trajectories[0].turns[0], whole.trajectories[0].turns[0]
    assert replace(seen, observations=()) == replace(original, observations=())
    assert replace(seen.observations[0], data=None) == replace(original.observations[0], data=None)
    assert back.trajectories[1] == replace(whole.trajectories[1], turns=back.trajectories[1].turns)


@pytest.mark.parametrize("place", ["text", "arguments", "final"])
def test_half_surrogates_anywhere_can_be_stored(place: str) -> None:
    r"""A model can write ``"\ud800"`` in JSON; Python reads it, UTF-8 has no form for it."""
    bad: Any = "x\ud800y" if place == "text" else {"k\udc00": "x\ud800y"}
    back = parse(dump(episode(None, **{place: bad})))[0]
    assert back.sample == 3


def test_the_known_forms_of_other_types() -> None:
    def data(value: Any) -> Any:
        return parse(dump(episode(value)))[0].trajectories[0].turns[0].observations[0].data

    assert data(b"abc") == b"abc"
    assert data({1}) == {1}
    assert data(Odd()) == "<odd>"
    assert data({1: "x"}) == {1: "x"}
    assert data(10**5000) == 10**5000
    assert data("a\ud800b") == "a\ud800b"


def test_every_line_is_json_that_any_reader_takes() -> None:
    """``NaN`` and ``Infinity`` are no JSON, and many readers refuse numbers of more than 4,300 digits."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    line = dump(episode([math.nan, -math.inf, 10**5000]), {"loss": math.nan})
    row = json.loads(line, parse_constant=refuse)
    assert row["extra"] == {"loss": {"!": "float", "text": "nan"}}
    assert row["turns"][0]["given"] == [1, 2]


def test_a_line_with_every_field_and_number_constants_is_read() -> None:
    """Lines of a writer that leaves no default out and writes ``NaN`` as Python does."""
    row = json.loads(dump(episode([1.0])))
    row["turns"][0]["observations"][0] |= {"data": [math.nan], "artifacts": [], "peak_mb": 0.0}
    row["task"]["world"] = None
    back = parse(json.dumps(row))[0]
    assert back.task == episode().task
    assert math.isnan(back.trajectories[0].turns[0].observations[0].data[0])


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_a_nonsense_policy_leaves_behind_reloads_equal(world: str, seed: int) -> None:
    tasks = WORLDS[world].tasks("train", 2)
    episodes = drive(Prober(), tasks, WORLDS[world], nonsense(seed, renderer=layout()), num_generations=2)
    for one in episodes:
        assert parse(dump(one))[0] == one


# --------------------------------------------------------------------------------------------------------------- files


def test_append_goes_on_and_save_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "episodes.jsonl"
    append(path, [episode()], [{"step": 1}])
    append(path, [episode(), episode()])
    assert [extra for _, extra in load(path)] == [{"step": 1}, {}, {}]
    save(path, [episode()])
    assert len(list(load(path))) == 1


def test_a_cut_off_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    append(path, [episode(), episode()])
    whole = path.read_bytes()
    for cut in (1, 2, len(whole) // 4):
        path.write_bytes(whole[:-cut])
        assert [e for e, _ in load(path)] == [episode()]


def test_a_cut_inside_a_character_is_left_out_too(tmp_path: Path) -> None:
    """A killed run may stop between the two bytes of a letter."""
    path = tmp_path / "episodes.jsonl"
    append(path, [episode(), episode(text="\u00e9" * 50)])
    whole = path.read_bytes()
    at = whole.rindex("\u00e9".encode()) + 1
    path.write_bytes(whole[:at])
    assert len(list(load(path))) == 1


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    append(path, [episode()])
    path.write_text(path.read_text() + "{}\n" + path.read_text())
    with pytest.raises(ValueError, match=r"episodes\.jsonl, line 2: not an episode"):
        list(load(path))


@pytest.mark.parametrize("line", ["", "{}", "null", "[]", '{"task": 3}', "\ud800"])
def test_a_line_that_is_no_episode_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        parse(line)


def test_extras_must_match_the_episodes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        append(tmp_path / "x.jsonl", [episode(), episode()], [{}])
