"""Measures with intervals against numbers worked out by hand or by enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from ferrule.evaluate.metrics import (
    Estimate,
    bootstrap_mean,
    efficiency,
    necessity,
    normalised,
    paired_difference,
    pass_at_k,
    productivity,
    shown,
    solve_rates,
    task_mean,
    wilson,
)


def test_wilson_worked() -> None:
    # 8 of 10: z2 = 3.841459; centre = (0.8 + 3.841459/20) / (1 + 0.3841459) = 0.992073/1.384146 = 0.716740;
    # half = 1.959964 sqrt(0.8*0.2/10 + 3.841459/400) / 1.384146 = 1.959964 * 0.160012 / 1.384146 = 0.226577.
    found = wilson(8, 10)
    assert found.value == 0.8
    assert found.interval == pytest.approx((0.716740 - 0.226577, 0.716740 + 0.226577), abs=2e-6)


def test_wilson_at_the_ends() -> None:
    # p = 0: centre = half = (z2/2n) / (1 + z2/n), so the upper end is z2 / (n + z2) = 3.841459 / 13.841459.
    assert wilson(0, 10).interval == pytest.approx((0.0, 3.841459 / 13.841459), abs=1e-6)
    assert wilson(10, 10).interval == pytest.approx((10 / 13.841459, 1.0), abs=1e-6)
    empty = wilson(0, 0)
    assert math.isnan(empty.value)
    assert empty.interval == (0.0, 1.0)
    with pytest.raises(ValueError, match="11 successes of 10"):
        wilson(11, 10)


@pytest.mark.parametrize(("count", "p"), [(20, 0.1), (20, 0.5), (100, 0.9)])
def test_wilson_covers_the_truth_about_95_percent_of_the_time(count: int, p: float) -> None:
    # Coverage summed exactly over the binomial distribution; Wilson's stays near 95 % (above 92 % for these).
    covered = sum(
        math.comb(count, k) * p**k * (1 - p) ** (count - k)
        for k in range(count + 1)
        if wilson(k, count).low <= p <= wilson(k, count).high
    )
    assert 0.92 < covered < 0.99


def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample() -> None:
    # 5 samples, 2 right, k = 2: 1 - C(3,2)/C(5,2) = 1 - 3/10.
    assert pass_at_k(5, 2, 2) == pytest.approx(0.7)
    for count, right, k in [(6, 1, 3), (6, 4, 2), (4, 0, 4), (4, 4, 1), (5, 2, 5)]:
        subsets = list(itertools.combinations([True] * right + [False] * (count - right), k))
        assert pass_at_k(count, right, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize("arguments", [(4, 2, 5), (4, 2, 0), (4, 5, 1), (0, 0, 1)])
def test_pass_at_k_refuses_what_has_no_meaning(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"samples|right"):
        pass_at_k(*arguments)


def test_bootstrap_is_seeded_and_near_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 400).tolist()
    found = bootstrap_mean(values, seed=4)
    assert found == bootstrap_mean(values, seed=4)
    assert found != bootstrap_mean(values, seed=5)
    # The normal interval is mean +- 1.96 s/sqrt(400).
    half = 1.96 * float(np.std(values)) / 20
    assert found.low == pytest.approx(found.value - half, abs=0.02)
    assert found.high == pytest.approx(found.value + half, abs=0.02)
    assert math.isnan(bootstrap_mean([]).value)
    one = bootstrap_mean([0.4])
    assert (one.value, one.count, math.isnan(one.low), math.isnan(one.high)) == (0.4, 1, True, True)


def test_what_is_shown_says_why_there_is_no_interval() -> None:
    assert shown(Estimate(0.25, 0.1, 0.5, 8).as_dict("success")) == "25.0% [10.0%, 50.0%]"
    assert shown(bootstrap_mean([0.4]).as_dict("success")) == "40.0% (no interval from 1 task)"
    assert shown(bootstrap_mean([]).as_dict("success")) == "no tasks"


def test_task_mean_counts_tasks_not_samples() -> None:
    # Two tasks with four samples each: means 1 and 0.5, so 1.5 of 2 tasks.
    found = task_mean([[1, 1, 1, 1], [1, 0, 1, 0]])
    assert (found.value, found.count) == (0.75, 2)
    assert found == wilson(1.5, 2)
    # Parts of a point are not successes: the bootstrap takes over, and stays between the task means.
    parts = task_mean([[0.25], [0.75], [0.5]])
    assert parts.value == 0.5
    assert 0.25 <= parts.low < parts.high <= 0.75
    assert task_mean([[1.0], []]).count == 1


def test_paired_difference_of_successes_worked() -> None:
    # 10 tasks, 3 gained, 0 lost: with half a task per outcome 3.5 and 0.5 of 12. centre = 3/12 = 0.25;
    # half = 1.959964 sqrt(4 - 9/12) / 12 = 1.959964 * 1.802776 / 12 = 0.294448.
    before, after = [0] * 3 + [1] * 7, [1] * 10
    found = paired_difference(before, after)
    assert (found.value, found.count) == (0.3, 10)
    assert found.interval == pytest.approx((0.25 - 0.294448, 0.25 + 0.294448), abs=2e-6)


def test_equal_pairs_are_not_certainty() -> None:
    found = paired_difference([1] * 10, [1] * 10)
    # 0.5 and 0.5 of 12: half = 1.959964 sqrt(1) / 12.
    assert found.value == 0.0
    assert found.interval == pytest.approx((-1.959964 / 12, 1.959964 / 12), abs=1e-6)


def test_pairing_removes_what_tasks_share() -> None:
    # Tasks differ widely, every one gains between 0.09 and 0.11: unpaired intervals overlap, the paired one is narrow.
    rng = np.random.default_rng(0)
    before = rng.uniform(0, 0.8, 60)
    after = before + 0.1 + rng.uniform(-0.01, 0.01, 60)
    paired = paired_difference(before.tolist(), after.tolist())
    assert 0.09 < paired.low < paired.high < 0.11
    assert bootstrap_mean(before.tolist()).high > bootstrap_mean(after.tolist()).low
    with pytest.raises(ValueError, match="pairs need equally many"):
        paired_difference([1.0], [])


def test_productivity_and_texts() -> None:
    assert productivity(3, 12) == 0.25
    assert productivity(3, 0) is None
    found = Estimate(0.5, 0.25, 0.75, 8)
    assert found.as_dict("success") == {"success": 0.5, "interval": [0.25, 0.75], "count": 8}
    assert str(found) == "0.500 [0.250, 0.750]"
    assert Estimate(math.nan, 0.0, 1.0, 0).as_dict() == {"value": None, "interval": [0.0, 1.0], "count": 0}


@pytest.mark.parametrize(
    ("n", "c", "k", "value"), [(8, 2, 1, 0.25), (8, 2, 4, 0.785714), (16, 1, 8, 0.5), (8, 0, 4, 0), (4, 4, 2, 1)]
)
def test_pass_at_k_by_hand(n: int, c: int, k: int, value: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(value, abs=1e-6)


def test_solve_rates() -> None:
    assert solve_rates(2, 4, 6) == pytest.approx({"precision": 0.5, "rate": 1 / 3, "f1": 0.4})
    assert solve_rates(0, 0, 0) == {"precision": 0, "rate": 0, "f1": 0}


def test_efficiency() -> None:
    """(1/2 + 1/1 + 0/3) / 3 = .5; without the one that made no call (1/2 + 0/3) / 2 = .25."""
    assert efficiency([1, 1, 0], [2, 0, 3]) == pytest.approx(0.5)
    assert efficiency([1, 1, 0], [2, 0, 3], skip=True) == pytest.approx(0.25)
    assert efficiency([1], [0], skip=True) == 0.0


OUTCOMES = [[(1, 2), (1, 1)], [(0, 1), (1, 0)], [(1, 0), (0, 3)]]


def test_necessity() -> None:
    """First method: +1 - 1 on the first sample, -1 on the second, so -1/2; the others were right with no call."""
    raw = necessity(OUTCOMES)  # type: ignore[arg-type]
    assert raw == pytest.approx([-0.5, 0.0, 0.0])
    assert normalised(raw) == pytest.approx([0.0, 1.0, 1.0])
    assert normalised([0.3, 0.3]) == [0.0001, 0.0001]


def test_necessity_as_published_leaves_out_the_wrong_method() -> None:
    """On the second sample the second method, which did it without a call, is not compared: 0 in place of -1."""
    assert necessity(OUTCOMES, reference=True) == pytest.approx([0.0, 0.0, 0.0])  # type: ignore[arg-type]
