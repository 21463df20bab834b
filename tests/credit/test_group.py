"""Group baselines and whitening by hand-computed numbers."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.checks import signals_of

from ferrule.core.arrays import chain
from ferrule.credit.group import broadcast, group_relative, leave_one_out, whiten

ONE = np.zeros((4, 1), dtype=np.int64)


def test_mean_baseline_without_spread() -> None:
    """Group 0 holds 1, 0, 0.5 (mean 0.5), group 1 holds 2 alone."""
    adv = group_relative(np.array([1.0, 0.0, 0.5, 2.0]), np.array([0, 0, 0, 1]), ONE)
    assert adv[:, 0] == pytest.approx([0.5, -0.5, 0.0, 0.0])


def test_unbiased_and_population_spread() -> None:
    """Rewards 1, 0, 0, 0: mean 0.25; squared deviations sum to 0.75, std 0.5 unbiased, sqrt(3)/4 population."""
    reward, group = np.array([1.0, 0, 0, 0]), np.zeros(4, dtype=np.int64)
    assert group_relative(reward, group, ONE, std="unbiased", eps=0)[:, 0] == pytest.approx([1.5, -0.5, -0.5, -0.5])
    expected = np.array([0.75, -0.25, -0.25, -0.25]) / (np.sqrt(3) / 4)
    assert group_relative(reward, group, ONE, std="population", eps=0)[:, 0] == pytest.approx(expected)


def test_eps_is_added_to_the_spread() -> None:
    """Rewards 1 and 0: unbiased std is sqrt(0.5); with eps 1 the first gets 0.5 / (sqrt(0.5) + 1)."""
    adv = group_relative(np.array([1.0, 0.0]), np.zeros(2, dtype=np.int64), ONE[:2], std="unbiased", eps=1.0)
    assert adv[0, 0] == pytest.approx(0.5 / (np.sqrt(0.5) + 1))


def test_leave_one_out() -> None:
    """Rewards 1, 0, 0.5: the others' means are 0.25, 0.75, 0.5."""
    adv = leave_one_out(np.array([1.0, 0.0, 0.5, 9.0]), np.array([3, 3, 3, 7]), ONE)
    assert adv[:, 0] == pytest.approx([0.75, -0.75, 0.0, 0.0])


def test_group_of_one() -> None:
    reward, group = np.array([0.7]), np.array([5])
    assert group_relative(reward, group, ONE[:1])[0, 0] == 0.0
    assert group_relative(reward, group, ONE[:1], singleton="raw")[0, 0] == 0.7


def test_equal_rewards_are_exactly_zero_even_where_sums_round() -> None:
    """0.1 added three times is not 0.3 in floating point; dividing what is left by a tiny eps would blow it up."""
    adv = group_relative(np.full(3, 0.1), np.zeros(3, dtype=np.int64), ONE[:3], std="unbiased", eps=1e-300)
    assert not adv.any()


def test_only_model_tokens_get_credit() -> None:
    turn = np.array([[-1, 0, -1, 1], [-1, -1, 0, -1]])
    adv = group_relative(np.array([1.0, 0.0]), np.zeros(2, dtype=np.int64), turn)
    assert adv.tolist() == [[0, 0.5, 0, 0.5], [0, 0, -0.5, 0]]


def test_whiten_over_all_model_tokens() -> None:
    """Row 0 has three tokens of 1, row 1 one of 0: mean 0.75, unbiased variance 0.25."""
    turn = np.array([[0, 0, 0], [0, -1, -1]])
    adv = chain(broadcast, whiten)(_signals(turn, [1.0, 0.0]))
    assert adv == pytest.approx(np.array([[0.5, 0.5, 0.5], [-1.5, 0, 0]]), abs=1e-7)


def test_whiten_without_shift_keeps_the_mean() -> None:
    turn = np.array([[0, 0], [0, 0]])
    adv = whiten(np.array([[3.0, 3.0], [1.0, 1.0]]), turn, shift=False)
    assert adv[turn >= 0].mean() == pytest.approx(2.0)


def _signals(turn: np.ndarray, reward: list[float]):  # type: ignore[type-arg,no-untyped-def]
    from dataclasses import replace

    base = signals_of([0] * len(reward), [0] * len(reward))
    return replace(base, turn_NT=turn, reward_N=np.asarray(reward))


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"baseline": "leave_one_aut"}, "did you mean 'leave_one_out'"),
        ({"std": "unbaised"}, "did you mean 'unbiased'"),
        ({"singleton": "one"}, "known: raw, zero"),
    ],
)
def test_unknown_settings_are_refused(setting: dict[str, str], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        partial(group_relative, **setting)(np.zeros(4), np.zeros(4, dtype=np.int64), ONE)  # type: ignore[arg-type]


def test_rewards_that_are_not_finite_are_refused_by_row() -> None:
    with pytest.raises(ValueError, match="row 2"):
        group_relative(np.array([0.0, 1.0, np.nan, 0.0]), np.zeros(4, dtype=np.int64), ONE)


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12),
    st.integers(1, 4),
    st.sampled_from(["none", "population", "unbiased"]),
    st.sampled_from(["mean", "leave_one_out"]),
)
def test_advantages_of_a_group_sum_to_zero(values: list[float], groups: int, std: str, baseline: str) -> None:
    reward = np.asarray(values)
    group = np.arange(len(values)) % groups
    turn = np.zeros((len(values), 1), dtype=np.int64)
    adv = group_relative(reward, group, turn, std=std, baseline=baseline)[:, 0]  # type: ignore[arg-type]
    assert np.isfinite(adv).all()
    for g in range(groups):
        assert adv[group == g].sum() == pytest.approx(0, abs=1e-6 * max(1.0, np.abs(adv).max()))
