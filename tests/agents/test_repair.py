"""Calls that failed: what passes, where an episode is taken up again, and the candidate that failed least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ferrule.agents.repair import best_of, cut, pass_rate, passed, repair, words
from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn

TASK = Task("t", "?", answer="yes")


def played(statuses: Sequence[int]) -> Trajectory:
    """One turn per call (1: passed, 0: failed), then a turn that answers."""
    turns = []
    for k, good in enumerate(statuses):
        observation = Observation("3") if good else Observation("ZeroDivisionError: division by zero", "error")
        reply = Message("assistant", f"thought {k} goes on", (Call("python", {"code": "1/0"}),))
        turns.append(Turn(k, k - 1 if k else None, (1,), (2,), (-0.1,), reply, observations=(observation,)))
    last = len(turns)
    turns.append(Turn(last, last - 1 if last else None, (1,), (3,), (-0.1,), Message("assistant", "yes")))
    return Trajectory(TASK, tuple(turns), "yes", "answer")


def test_words_join_to_the_text() -> None:
    for text in ("", " ", "a", " a\nb  c \n"):
        assert "".join(words(text)) == text


def test_where_a_text_is_cut() -> None:
    text = "think A ```python\n1/0\n```\n".replace(" ```", "\n```") + "```output\nerr\n```\nrest"
    assert cut(text, suffix=0) == "think A\n"
    assert cut(text, suffix=1) == "think A"
    assert cut("one two three\n```python\n1/0\n```\n```output\nerr\n```\n", suffix=2) == "one two"
    assert cut("one two\n```python\n1/0\n```\nno output") == "one two\n```python\n1/0\n```\nno output"
    assert cut("a python story") == "a python story"


def test_the_published_cut_eats_earlier_observations() -> None:
    block = "```python\n{}\n```\n```output\n{}\n```\n"
    text = "first\n" + block.format("2+2", "4") + "then\n" + block.format("1/0", "err")
    assert cut(text, suffix=3) == "first\n" + block.format("2+2", "4")
    assert cut(text, suffix=3, reference=True) == "first\n" + block.format("2+2", "4")[: -len("\n4\n```\n")] + "\n4"


@pytest.mark.parametrize(
    "text",
    [
        "think A ```python\n1/0\n```\n```output\nerr\n```\nrest",
        "think A ```python\r\n1/0\r\n```\r\n```output\r\nerr\r\n```\r\nrest",
        "think A ```Python\n1/0\n```\n```output\nerr\n```\nrest",
        "think A ```py\n1/0\n```\n```output\nerr, and never closed",
    ],
)
def test_fences_may_stand_in_a_line(text: str) -> None:
    assert cut(text, suffix=0) == "think A "
    with pytest.raises(ValueError, match="suffix is -1"):
        cut(text, suffix=-1)


def test_warnings_are_nothing_to_show() -> None:
    def shown(**data: Any) -> Observation:
        return Observation("some text", data={"stdout": "", "stderr": "", "value": None, **data})

    assert not passed(shown(stderr="DeprecationWarning"))
    assert passed(shown(stdout="3"))
    assert passed(shown(value="3"))
    assert passed(shown(stderr="x"), silent=True)


def test_pass_rates_and_the_best_candidate() -> None:
    assert pass_rate(played([1, 0, 1, 1])) == 0.75
    assert pass_rate(played([1, 0, 1, 1]), reference=True) == 0.0
    assert (pass_rate(played([])), pass_rate(played([]), reference=True)) == (0.0, 1.0)
    group = [played([0, 1]), played([1, 1]), played([1]), played([])]
    assert best_of(group) == 1
    assert best_of(group[::-1], reference=True) == 0
    with pytest.raises(ValueError, match="no candidate"):
        best_of([])


def test_repairs_begin_at_the_last_call_or_the_last_failure() -> None:
    mixed = played([0, 1])
    last = repair(mixed, label="x", suffix=0)
    failed = repair(mixed, label="x", suffix=0, at="failed")
    assert last is not None
    assert failed is not None
    assert last.meta["prefix"].prefill == "thought 1 goes on"
    assert failed.meta["prefix"].prefill == "thought 0 goes on"
    assert repair(mixed, label="x").meta["prefix"].prefill == ""  # type: ignore[union-attr]
    assert repair(played([1]), label="x") is None
    assert repair(played([]), label="x") is None
    with pytest.raises(ValueError, match="did you mean 'failed'"):
        repair(mixed, label="x", at="faild")  # type: ignore[arg-type]


def test_calls_that_never_ran_begin_no_repair() -> None:
    """The budget was spent at the second turn; the first is where something ran and failed."""
    path = played([0, 1])
    refused = replace(path.turns[1], observations=(Observation("no more calls", "refused"),))
    spent = replace(path, turns=(path.turns[0], refused, path.turns[2]))
    assert repair(spent, label="x", suffix=0).meta["prefix"].prefill == "thought 0 goes on"  # type: ignore[union-attr]
