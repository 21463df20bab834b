"""What is wrong with a call, and what calls score."""

from __future__ import annotations

import pytest

from ferrule.core.records import Call
from ferrule.rewards.slots import Signal, SlotScores, signals, slot_scores, slot_share


def test_tools_slots_and_whole_calls() -> None:
    """Worked example 1 of JTPRO: one right, one with half of its slots, one with another tool."""
    gold = Call("book", {"date": "2024-05-01", "n": 2})
    made = [gold, Call("book", {"date": "May 1", "n": 2}), Call("hold", {"date": "2024-05-01"})]
    assert slot_scores(made, [gold] * 3) == SlotScores(pytest.approx(2 / 3), 0.75, pytest.approx(1 / 3), 3)


def test_signals_are_typed() -> None:
    """Worked example 2."""
    gold = Call("a", {"x": 2, "y": 3})
    wrong = signals(Call("a", {"x": 1, "z": 0}), gold)
    assert [str(signal) for signal in wrong] == ["wrong_value:x", "missing_slot:y", "extra_slot:z"]
    assert wrong[0] == Signal("wrong_value", "x", 1, 2)
    assert [str(signal) for signal in signals(Call("b"), gold)] == ["wrong_tool:a->b"]
    assert signals(None, gold) == signals(Call("a", problem="cut off"), gold) == (Signal("no_call", wanted="a"),)


def test_an_extra_slot_costs() -> None:
    """Worked example 6."""
    assert slot_scores([Call("a", {"x": 1, "w": 5})], [Call("a", {"x": 1})]) == SlotScores(1.0, 0.5, 0.0, 1)


def test_values_are_compared_as_they_are_but_for_blanks_around_texts() -> None:
    gold = Call("a", {"x": "Oslo", "y": 1})
    assert signals(Call("a", {"x": " Oslo ", "y": 1.0}), gold) == ()
    assert [str(signal) for signal in signals(Call("a", {"x": "oslo", "y": True}), gold)] == [
        "wrong_value:x", "wrong_value:y",
    ]  # fmt: skip


def test_calls_without_slots_and_no_calls_at_all() -> None:
    assert slot_share(Call("a"), Call("a")) == 1.0
    assert slot_share(Call("a", {"x": 1}), Call("b", {"x": 1})) == 0.0
    assert slot_scores([None, Call("b")], [Call("a"), Call("a")]) == SlotScores(0.0, 0.0, 0.0, 2)
    with pytest.raises(ValueError, match="no calls to score"):
        slot_scores([], [])
