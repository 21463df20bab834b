"""Counted comparisons: the worked examples of paper 11, equal length, and means by the number of calls."""

from __future__ import annotations

import math

import pytest

from ferrule.evaluate.wins import by_calls, controlled_gap, wins


def test_wins_worked() -> None:
    """Verdicts 5 base, 3 tool, 2 tie: .5, .3, .2, gap +.2; of the 8 decided ones 5/8 = .625."""
    data = wins([1.0] * 5 + [0.0] * 3 + [0.5] * 2)
    assert [data[name] for name in ("first", "second", "tie", "decided")] == pytest.approx([0.5, 0.3, 0.2, 0.625])
    assert data["gap"] == pytest.approx(0.2)
    assert data["interval"][0] < 0 < data["interval"][1]
    assert data["unknown"] == 0


def test_what_nobody_could_read_counts_for_neither() -> None:
    data = wins([1.0, None, None])
    assert (data["first"], data["unknown"], data["count"]) == (1.0, 2, 1)
    empty = wins([None])
    assert [empty[name] for name in ("first", "tie", "gap", "decided")] == [None] * 4
    assert wins([0.5, 0.5])["decided"] is None


def test_shares_that_are_none_and_lists_that_do_not_fit_are_refused() -> None:
    for share in (math.nan, 1.5, -0.1):
        with pytest.raises(ValueError, match="it must lie in 0 to 1"):
            wins([1.0, share])
    with pytest.raises(ValueError, match="1 lengths for 2 shares"):
        wins([1.0, 0.0], lengths=[(1.0, 2.0)])
    with pytest.raises(ValueError, match="3 tasks for 1 shares"):
        wins([1.0], tasks=["a", "b", "c"])


def test_samples_of_a_task_are_one_unit() -> None:
    """Four comparisons of two tasks: gaps of the tasks are (1 + 1)/2 and (-1 + 0)/2, so .25 from two units."""
    data = wins([1.0, 1.0, 0.0, 0.5], tasks=["a", "a", "b", "b"])
    assert (data["gap"], data["count"]) == (0.25, 2)


def test_equal_length_takes_away_what_length_explains() -> None:
    """The longer one always wins: at equal length nobody does. Without differences of length half a win is added."""
    assert controlled_gap([1.0, 1.0, 0.0, 0.0], [10.0, 8.0, -10.0, -8.0]) == pytest.approx(0.0, abs=1e-9)
    # three wins and half a win against one loss and half a loss: (3.5 - 1.5) / 5 = .4
    assert controlled_gap([1.0, 1.0, 1.0, 0.0], [0.0] * 4) == pytest.approx(0.4)
    assert math.isfinite(controlled_gap([1.0] * 9, [3.0] * 9))
    # six solutions of equal length are all better, and length adds to two more: what is left is no smaller
    assert controlled_gap([1.0] * 6 + [1.0, 0.0], [0.0] * 6 + [9.0, -9.0]) > 0.6


def test_means_by_calls_worked() -> None:
    """Episodes (2, .6), (3, .8), (7, .1): nobody made no call, (.6 + .8)/2 = .7, and .1; an empty bucket is None."""
    table = by_calls([2, 3, 7], [0.6, 0.8, 0.1], (1, 5, 10))
    assert table == {"0": None, "1-4": pytest.approx(0.7), "5-9": 0.1, "10+": None}
    assert by_calls([0, 1, 1], [1.0, None, 0.0], (1, 2)) == {"0": 1.0, "1": 0.0, "2+": None}
    with pytest.raises(ValueError, match="must rise"):
        by_calls([1], [1.0], (0, 5))
