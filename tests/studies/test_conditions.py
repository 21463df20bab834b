"""Conditions: what their intervals decide, how verdicts are joined, and what is told of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ferrule.studies.conditions import Measured, at_least, conclude, describe, of, within


def measured(name: str, values: Sequence[float], threshold: float, *, decides: bool = True) -> Measured:
    condition = at_least(name, of("arm", "x"), threshold, decides=decides)
    return condition.measure([{"arm": {"x": value}} for value in values])


def test_the_interval_decides() -> None:
    """1, 2, 3: mean 2, half width 4.303 / sqrt(3) = 2.484, so at least 0 is undecided and at least 5 is not held."""
    sure, unsure, missed = (measured("a", [1.0, 2.0, 3.0], least) for least in (-1.0, 0.0, 5.0))
    assert [one.verdict for one in (sure, unsure, missed)] == ["held", "undecided", "not held"]
    assert unsure.interval == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)


def test_one_condition_that_is_not_held_refutes_the_claim() -> None:
    high, low, wide = (measured("x", values, 0.0) for values in ([1, 1.1, 0.9], [-1, -1.1, -0.9], [-1, 0, 1]))
    assert conclude([high, high]) == "held"
    assert conclude([high, wide]) == "undecided"
    assert conclude([high, wide, low]) == "not held"


def test_conditions_beside_are_told_and_decide_nothing() -> None:
    held, beside = measured("a", [1.0] * 3, 0.0), measured("b", [1.0] * 3, 2.0, decides=False)
    assert (beside.verdict, conclude([held, beside])) == ("not held", "held")
    assert describe(held) == "a: 1.000 [1.000, 1.000], threshold 0.000: held"
    assert describe(beside) == "Beside the verdict: b: 1.000 [1.000, 1.000], threshold 2.000: not held"


def test_alike_means_an_interval_within_the_margin() -> None:
    """Mean 0, half width 2.484: within 3 but not within 2; an interval beyond the margin on one side is not alike."""
    rows = [{"arm": {"x": value}} for value in (-1.0, 0.0, 1.0)]
    assert within("x", of("arm", "x"), 3.0).measure(rows).verdict == "held"
    assert within("x", of("arm", "x"), 2.0).measure(rows).verdict == "undecided"
    assert within("x", of("arm", "x", plus=10.0), 3.0).measure(rows).verdict == "not held"
