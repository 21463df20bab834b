"""Credit from an outcome and a turn reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.contracts.checks import signals_of

from ferrule.core.arrays import Signals
from ferrule.credit.acted import mt_grpo, mt_grpo_whitened
from ferrule.credit.group import group_relative


def channelled(signals: Signals, turn: Sequence[float], acting: Sequence[float]) -> Signals:
    return replace(signals, parts_CN=np.array([turn, acting], dtype=float), channels=("turn", "acted"))


def test_turn_credit_of_one_group() -> None:
    """R = [1, 0]: +-.5 / .7071 = +-.7071. T = [.35, .2]: +-.075 / .10607 = +-.7071; together 1.4142 up to the call."""
    turn_NT = np.array([[0, 0, -1, 1, 1], [0, 0, -1, -1, 1]])
    bare = replace(signals_of([0, 1], [0, 0]), turn_NT=turn_NT, reward_N=np.array([1.0, 0.0]))
    signals = channelled(bare, [0.35, 0.2], [0, 0])
    want = [[1.4142, 1.4142, 0, 0.7071, 0.7071], [-1.4142, -1.4142, 0, 0, -0.7071]]
    assert mt_grpo(signals) == pytest.approx(np.array(want), abs=2e-5)
    outcome_NT = group_relative(bare.reward_N, bare.group_N, turn_NT, std="unbiased")
    assert mt_grpo(signals, c=0.0) == pytest.approx(outcome_NT)
    never = mt_grpo(channelled(bare, [-0.9, 0.2], [-1, -1]))  # R + T is .1 and .2: the order turns round
    assert never[:, 0] == pytest.approx([-0.7071, 0.7071], abs=1e-4)
    assert (never[turn_NT < 0] == 0).all()
    with pytest.raises(ValueError, match=r"'acted', which is absent; wrap the reward in with_turn_reward"):
        mt_grpo(bare)


def test_equal_rewards_get_no_credit() -> None:
    signals = channelled(signals_of([0, 1, 2], [0, 0, 0], equal=True), [0.2] * 3, [0, 1, 0])
    assert (mt_grpo(signals) == 0).all()
    assert (mt_grpo_whitened(signals) == 0).all()


@pytest.mark.parametrize("values", [[0.0, 1e-7], [0.1 + 0.2, 0.3]])
def test_rewards_that_only_rounding_tells_apart_are_not_blown_up(values: list[float]) -> None:
    """Centred and not divided: at most 5e-8; beside a group that differs, whitening leaves them at 0."""
    signals = replace(signals_of([0, 1, 0, 1], [0, 0, 1, 1]), reward_N=np.array([*values, 1.0, 0.0]))
    spread = channelled(signals, [0.2, 0.2, 0.3, 0.1], [0, 0, 0, 0])
    found = mt_grpo(spread)
    assert np.abs(found[:2]).max() <= 5.1e-8
    assert np.abs(found[2:]).max() > 0.7
    assert (mt_grpo_whitened(spread)[:2] == 0).all()


def test_whitening_leaves_groups_without_a_difference_alone() -> None:
    """The published form pushes them by the batch's mean, which is not 0 as soon as rows differ in length."""
    signals = replace(signals_of([0, 1, 0, 1], [0, 0, 1, 1]), reward_N=np.array([1.0, 0.0, 1.0, 1.0]))
    spread = channelled(signals, [0.3, 0.1, 0.2, 0.2], [0, 0, 0, 0])
    mine = signals.turn_NT >= 0
    kept, pushed = mt_grpo_whitened(spread), mt_grpo_whitened(spread, reference=True)
    assert (kept[2:] == 0).all()
    assert (pushed[2:][mine[2:]] != 0).all()
    assert (kept[:2] == pushed[:2]).all()
    assert pushed[mine].mean() == pytest.approx(0.0, abs=1e-9)
    assert pushed[mine].std(ddof=1) == pytest.approx(1.0, abs=1e-6)
