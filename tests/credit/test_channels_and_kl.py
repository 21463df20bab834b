"""Reward channels, KL inside the reward, and composed functions that keep their names."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from tests.contracts.checks import signals_of

from ferrule.core.arrays import Signals, apply
from ferrule.core.marks import exempt, exemptions
from ferrule.credit.channels import (
    effective_weights,
    normalise_then_sum,
    per_channel,
    qualifying,
    sum_then_normalise,
)
from ferrule.credit.group import group_relative
from ferrule.credit.kl import AdaptiveKL, kl_penalty, with_kl_reward
from ferrule.credit.returns import gae, return_to_go

GRPO = partial(group_relative, std="unbiased", eps=0.0)


def _batch() -> Signals:
    """Two rows, one token each; outcome 1 and 0, format 0 and 10."""
    base = signals_of([3, 3], [0, 0])
    turn = np.array([[0], [0]])
    return replace(base, turn_NT=turn, parts_CN=np.array([[1.0, 0.0], [0.0, 10.0]]), reward_N=np.zeros(2))


def test_sum_then_normalise_lets_the_wide_channel_win() -> None:
    """Sums are 1 and 10; two values always normalise to -+1/sqrt(2)."""
    adv = sum_then_normalise(GRPO)(_batch())
    assert adv[:, 0] == pytest.approx([-np.sqrt(0.5), np.sqrt(0.5)])


def test_normalise_then_sum_puts_channels_on_one_scale() -> None:
    """Each channel gives +-1/sqrt(2) with opposite signs, so equal weights cancel and 3 to 1 leaves twice one."""
    assert normalise_then_sum(GRPO)(_batch())[:, 0] == pytest.approx([0, 0])
    adv = normalise_then_sum(GRPO, weights={"outcome": 3.0, "format": 1.0})(_batch())
    assert adv[:, 0] == pytest.approx([2 * np.sqrt(0.5), -2 * np.sqrt(0.5)])


def test_per_channel_gives_one_advantage_per_channel() -> None:
    adv = per_channel(GRPO)(_batch())
    assert adv.shape == (2, 2, 1)
    assert adv[0, :, 0] == pytest.approx(-adv[1, :, 0])


def test_only_rows_that_qualify_are_compared() -> None:
    """Rewards 1, .5, .25 and 0 of four rows: without the last, z-scores of the first three; alone, nothing."""
    base = replace(signals_of([3, 3, 3, 3, 3], [0, 0, 0, 0, 1]), turn_NT=np.zeros((5, 1), dtype=np.int64))
    signals = replace(base, reward_N=np.array([1.0, 0.5, 0.25, 0.0, 1.0]))
    among = qualifying(GRPO, lambda reward_N: reward_N > 0)
    assert among(signals)[:, 0] == pytest.approx([1.0911, -0.2182, -0.8729, 0, 0], abs=1e-4)
    assert not qualifying(GRPO, lambda reward_N: reward_N > 0.9)(signals).any()
    assert not qualifying(GRPO, lambda reward_N: reward_N > 9)(signals).any()
    raw = partial(group_relative, singleton="raw")
    assert qualifying(raw, lambda group_N: group_N == 1)(signals)[:, 0].tolist() == [0, 0, 0, 0, 1.0]


def test_effective_weights_say_what_a_normalised_sum_is_made_of() -> None:
    """A(sum) = sum of weights times A(part), in every group; a constant sum, a lone row and an empty batch have 0."""
    signals = signals_of([0, 1, 2, 3, 4, 5], [0, 0, 0, 2, 2, 2])
    given = {"outcome": 1.0, "format": 0.3}
    found = effective_weights(signals.parts_CN, signals.group_N, weights_C=np.array([1.0, 0.3]), ddof=1)
    assert found.shape == (2, 2)
    whole = sum_then_normalise(GRPO, weights=given)(signals)
    parts = per_channel(GRPO)(signals)
    for row, group in enumerate((0, 2)):
        own = signals.group_N == group
        assert whole[own] == pytest.approx(np.tensordot(found[row], parts[:, own], 1))
    assert not effective_weights(np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros(2)).any()
    assert not effective_weights(np.array([[1.0], [2.0]]), np.zeros(1), ddof=1).any()
    assert effective_weights(np.zeros((2, 0)), np.zeros(0)).shape == (0, 2)


def test_weights_must_match_the_channels() -> None:
    with pytest.raises(ValueError, match="did you mean 'format'"):
        sum_then_normalise(GRPO, weights={"outcome": 1.0, "fromat": 1.0})(_batch())
    with pytest.raises(ValueError, match="no weight for reward channel 'format'"):
        sum_then_normalise(GRPO, weights={"outcome": 1.0})(_batch())
    with pytest.raises(ValueError, match="no reward channels"):
        sum_then_normalise(GRPO)(replace(_batch(), channels=(), parts_CN=np.zeros((0, 2))))
    with pytest.raises(ValueError, match="belong to no channel"):
        per_channel(return_to_go)


def test_kl_estimators() -> None:
    """logp -1, ref -1.5: x = -.5; k1 .5, k2 .125, k3 exp(-.5) - .5 = .106531. Swapped: -.5, .125, .148721."""
    turn = np.array([[0]])
    there = {"logp_NT": np.array([[-1.0]]), "ref_NT": np.array([[-1.5]])}
    back = {"logp_NT": np.array([[-1.5]]), "ref_NT": np.array([[-1.0]])}
    for named, expected in ((there, [0.5, 0.125, 0.106531]), (back, [-0.5, 0.125, 0.148721])):
        got = [-kl_penalty(**named, turn_NT=turn, beta=1.0, estimator=k)[0, 0] for k in ("k1", "k2", "k3")]  # type: ignore[arg-type]
        assert got == pytest.approx(expected, abs=1e-6)


def test_kl_reward_goes_per_token_into_gae_and_summed_into_group_rules() -> None:
    batch = signals_of([0, 1], [0, 0])
    ref = np.where(batch.turn_NT >= 0, batch.logp_NT - 0.5, 0.0)
    rule = with_kl_reward(gae, 0.1)
    assert {"logp_NT", "ref_NT", "value_NT"} <= set(inspect.signature(rule).parameters)
    assert "token_reward_NT" not in inspect.signature(rule).parameters
    penalty = np.where(batch.turn_NT >= 0, -0.05, 0.0)
    assert apply(rule, batch, ref_NT=ref) == pytest.approx(apply(gae, batch, token_reward_NT=penalty))
    tokens = (batch.turn_NT >= 0).sum(1)
    shifted = replace(batch, reward_N=batch.reward_N - 0.05 * tokens)
    assert apply(with_kl_reward(group_relative, 0.1), batch, ref_NT=ref) == pytest.approx(
        apply(group_relative, shifted)
    )


def test_a_penalty_that_would_be_lost_is_refused() -> None:
    with pytest.raises(ValueError, match="would be lost"):
        with_kl_reward(kl_penalty, 0.1)


def test_adaptive_kl() -> None:
    """beta .1, target .1, 256 episodes, horizon 10,000: errors 1 and -.5 are clipped to .2 and -.2, times .0256."""
    assert AdaptiveKL(0.1, target=0.1, horizon=10_000).update(0.2, 256) == pytest.approx(0.100512)
    assert AdaptiveKL(0.1, target=0.1, horizon=10_000).update(0.05, 256) == pytest.approx(0.099488)
    assert AdaptiveKL(0.1, target=0.1, horizon=10_000).update(0.101, 100) == pytest.approx(0.1 * (1 + 0.01 * 0.01))


def test_controller_moves_the_weight_of_a_rule() -> None:
    batch = signals_of([0, 1], [0, 0])
    ref = np.where(batch.turn_NT >= 0, batch.logp_NT - 0.5, 0.0)
    controller = AdaptiveKL(0.1)
    rule = with_kl_reward(gae, controller)
    before = apply(rule, batch, ref_NT=ref)
    controller.update(10.0, 5000)
    assert not np.allclose(before, apply(rule, batch, ref_NT=ref))


def test_exemptions_are_spelled_right_and_survive_partial() -> None:
    with pytest.raises(ValueError, match="did you mean 'centred'"):
        exempt("centered")  # type: ignore[arg-type]
    assert exemptions(partial(gae, lam=0.5)) == {"centred"}
    assert exemptions(group_relative) == frozenset()
