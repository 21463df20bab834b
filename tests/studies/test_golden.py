"""Goldens hold on further kinds of processors, where a sampled token on the edge falls the other way."""

from __future__ import annotations

from ferrule.studies import golden


def test_a_golden_of_another_processor_counts_and_no_other_number_does() -> None:
    stored = {"arms": {"a": {"a": {"x": 1.0}}}, "others": {"a": [{"a": {"x": 2.0}}]}}
    assert golden.misses(stored, "a", {"a": {"x": 1.0}}) == []
    assert golden.misses(stored, "a", {"a": {"x": 2.0}}) == []
    assert golden.misses(stored, "a", {"a": {"x": 3.0}}) == ["a, x: stored 1.0, measured 3.0"]
