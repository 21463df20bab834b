"""Labels from a model that judges."""

from __future__ import annotations

import pytest

from ferrule.rewards.labels import ai_preference, direct_score


def test_both_orders_cancel_a_leaning() -> None:
    """A labeller that says .8 for the better and adds .15 to what it reads first: both orders average to .8."""

    def labeller(first: int, second: int) -> float:
        return (0.8 if first > second else 0.2) + 0.15

    assert labeller(2, 1) == pytest.approx(0.95)
    assert ai_preference(labeller, 2, 1) == pytest.approx(0.8)
    assert ai_preference(labeller, 1, 2) == pytest.approx(0.2)


def test_direct_scores() -> None:
    assert [direct_score(m) for m in (1, 5.5, 10, 12)] == pytest.approx([-1, 0, 1, 1])
