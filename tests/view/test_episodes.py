"""Episodes for reading: nothing hides, nothing odd raises, and failures are among those shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrule.view.episodes import Sample, choose, sample, text, visible

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["task", "turns", "paths", "extra", "id", "reply", "calls", "messages", "observations", "scores", "phase", "meta",
     "role", "content", "name", "arguments", "problem", "repairs", "status", "text", "value", "parts", "step", "answer"]
)  # fmt: skip
NESTED = st.recursive(
    JSON, lambda inner: st.dictionaries(KEYS, inner, max_size=4) | st.lists(inner, max_size=3), max_leaves=10
)
ROWS = st.dictionaries(KEYS, NESTED, max_size=8)


def made(task: str, phase: str, solved: bool | None) -> Sample:
    return sample({"task": {"id": task}, "phase": phase, "success": solved})


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain\n\ttext é 数", "plain\n\ttext é 数"),
        ("\x1b[31mred\x00", "␛[31mred␀"),
        ("a\u202eb", "a⟨U+202E⟩b"),  # right-to-left override: could show a name backwards
        ("a\u200bb\ufeff", "a⟨U+200B⟩b⟨U+FEFF⟩"),
        ("\x7f\x9b", "⟨U+007F⟩⟨U+009B⟩"),
        ("half \ud83d", "half ⟨U+D83D⟩"),
        ({"a": [1, None]}, '{"a": [1, null]}'),
    ],
)
def test_nothing_hides(raw: Any, shown: str) -> None:
    assert visible(raw) == shown


@given(st.text(st.characters()))
def test_visible_text_can_always_be_written(raw: str) -> None:
    visible(raw).encode("utf-8")


def test_long_text_is_folded_and_kept_whole() -> None:
    assert text("short").opening == ""
    folded = text("x" * 5000)
    assert len(folded.whole) == 5000
    assert 0 < len(folded.opening) < 300
    assert len(text("line\n" * 40).opening.split("\n")) == 4


def test_a_recorded_row_is_read() -> None:
    """The form that ``ferrule.rollout.record`` writes: every turn once, paths by turn id, extras beside."""
    call = {"name": "add", "arguments": {"a": 1, "b": "x"}, "repairs": ["quotes"]}
    turns = [
        {"id": 1, "messages": [{"role": "tool", "content": "3"}], "reply": {"content": "3"}},
        {"id": 0, "messages": [{"role": "user", "content": "1+x?"}], "reply": {"content": "", "calls": [call]},
         "observations": [{"text": "3", "status": "ok"}]},
    ]  # fmt: skip
    row = {
        "task": {"id": "t", "prompt": "1+x?", "answer": 3, "world": "w", "meta": {"level": 2}},
        "turns": turns,
        "paths": [{"turns": [0, 1], "answer": "3", "finish": "answer", "problem": ""}, {"turns": [0]}],
        "extra": {"phase": "after, with tools", "scores": [{"value": 1.0, "parts": {"outcome": 1.0}}]},
    }
    seen = sample(json.loads(json.dumps(row)))
    assert (seen.phase, seen.arm, seen.solved, seen.reward, seen.answer, seen.expected) == (
        "after", "with tools", True, 1.0, "3", "3",
    )  # fmt: skip
    assert [[(line.kind, line.body.whole, line.status) for line in turn] for turn in seen.turns] == [
        [("user", "1+x?", ""), ("call", 'add(a=1, b="x")', ""), ("observation", "3", "ok")],
        [("assistant", "3", "")],  # the tool message repeats the observation before it
    ]
    assert seen.turns[0][1].notes == ("repaired: quotes",)
    assert seen.facts == ("world w", "level 2", "with tools")


def test_unreadable_calls_show_what_was_written() -> None:
    call = {"name": "", "raw": "<tool_call>{", "problem": "no closing brace"}
    (turn,) = sample({"turns": [{"reply": {"calls": [call]}}]}).turns
    assert turn[0].body.whole == "<tool_call>{"
    assert turn[0].notes == ("no closing brace",)
    assert turn[1].status == "missing"


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_no_row_raises(row: dict[str, Any]) -> None:
    seen = sample(row)
    assert seen.calls == sum(line.kind == "call" for turn in seen.turns for line in turn)


def test_pairs_show_wins_failures_and_losses() -> None:
    """Ten tasks before and after: each of the four outcomes is shown before any is shown twice."""
    outcomes = [(False, True)] * 4 + [(True, True)] * 3 + [(False, False)] * 2 + [(True, False)]
    samples = [made(str(i), "before", b) for i, (b, _) in enumerate(outcomes)]
    samples += [made(str(i), "after", a) for i, (_, a) in enumerate(outcomes)]
    chosen = choose(samples)
    pairs = [(chosen[i], chosen[i + 1]) for i in range(0, 10, 2)]
    assert all(b.task == a.task and (b.phase, a.phase) == ("before", "after") for b, a in pairs)
    assert {(b.solved, a.solved) for b, a in pairs} == {(False, True), (True, True), (False, False), (True, False)}
    assert choose(samples) == chosen


def test_without_pairs_failures_are_shown_too() -> None:
    samples = [made(str(i), "train", i != 17) for i in range(30)]
    chosen = choose(samples)
    assert len(chosen) == 10
    assert "17" in {item.task for item in chosen}
    assert choose([]) == []
