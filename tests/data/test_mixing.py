"""Shares of text-only traces, and one trace per question."""

from __future__ import annotations

import pytest

from ferrule.data.mixing import evened, mixed, one_per_question, text_count


def test_mixing() -> None:
    """3000 tool traces at a quarter: 1000 text-only ones."""
    assert text_count(3000) == 1000
    assert text_count(3000, rho=0.0) == 0
    out = mixed(["t"] * 9, ["a", "b"], seed=3)
    assert sorted(out) in (["a"] * 2 + ["b"] + ["t"] * 9, ["a"] + ["b"] * 2 + ["t"] * 9)
    assert out == mixed(["t"] * 9, ["a", "b"], seed=3)
    assert mixed([], ["a"]) == []
    with pytest.raises(ValueError, match="below 1"):
        text_count(3, rho=1.0)
    with pytest.raises(ValueError, match="there are none"):
        mixed(["t"] * 9, [])


def test_one_trace_per_question() -> None:
    traces = [("q", 1), ("r", 2), ("q", 3)]
    picked = one_per_question(traces, seed=1)
    assert len(picked) == 2
    assert picked[1] == 2


def test_kinds_are_evened_out() -> None:
    """Five, three and one: the median kind has three, so that many of the first are kept, in their order."""
    traces = [("a", 0), ("b", 1), ("a", 2), ("c", 3), ("a", 4), ("b", 5), ("a", 6), ("b", 7), ("a", 8)]
    kept = evened(traces)
    assert kept == sorted(kept)
    assert [sum(place in kept for place in own) for own in ((0, 2, 4, 6, 8), (1, 5, 7), (3,))] == [3, 3, 1]
    assert kept == evened(traces)
    assert len(evened(traces, most=1)) == 3
    assert evened([]) == []
    with pytest.raises(ValueError, match="most is 0"):
        evened(traces, most=0)
