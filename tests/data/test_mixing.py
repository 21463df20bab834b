"""Shares of text-only traces, and one trace per question."""

from __future__ import annotations

import pytest

from ferrule.data.mixing import mixed, one_per_question, text_count


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
