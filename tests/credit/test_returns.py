"""GAE, value targets and turn-level returns by hand-computed numbers."""

from __future__ import annotations

import numpy as np
import pytest

from ferrule.credit.returns import gae, q_targets, return_to_go, token_rewards, value_targets

VALUES = np.array([[0.2, 0.4, 0.6]])
TURN = np.zeros((1, 3), dtype=np.int64)
NONE = np.zeros((1, 1))


def test_gae_with_lambda() -> None:
    """r = [0, 0, 1], gamma 1, lambda .95: d = [.2, .2, .4]; A3 = .4, A2 = .2 + .95 * .4 = .58, A1 = .2 + .95 * .58 =
    .751.
    """
    adv = gae(np.array([1.0]), TURN, VALUES, NONE, gamma=1.0, lam=0.95)
    assert adv[0] == pytest.approx([0.751, 0.58, 0.4])
    targets = value_targets(np.array([1.0]), TURN, VALUES, NONE, gamma=1.0, lam=0.95)
    assert targets[0] == pytest.approx([0.951, 0.98, 1.0])


def test_gae_with_discount() -> None:
    """gamma .9, lambda 1: discounted returns are .81, .9, 1, less the values."""
    assert gae(np.array([1.0]), TURN, VALUES, NONE, gamma=0.9, lam=1.0)[0] == pytest.approx([0.61, 0.5, 0.4])


def test_gae_skips_observation_tokens() -> None:
    """Inserting two observation tokens with wild critic values changes nothing on the model's tokens."""
    turn = np.array([[-1, 0, -1, -1, 1, 1]])
    value = np.array([[9.0, 0.2, 50.0, -70.0, 0.4, 0.6]])
    adv = gae(np.array([1.0]), turn, value, np.zeros((1, 2)), gamma=1.0, lam=0.95)
    assert adv[0] == pytest.approx([0, 0.751, 0, 0, 0.58, 0.4])


def test_rewards_lie_on_the_last_token_of_their_turn() -> None:
    turn = np.array([[-1, 0, 0, -1, 1, 1], [0, -1, -1, -1, -1, -1]])
    placed = token_rewards(np.array([1.0, 2.0]), turn, np.array([[0.1, 0.2], [0.3, 0.0]]))
    assert placed == pytest.approx(np.array([[0, 0, 0.1, 0, 0, 1.2], [2.3, 0, 0, 0, 0, 0]]))


def test_token_rewards_reach_gae() -> None:
    """With lambda and gamma 1 the advantage of a token is the sum of rewards from it on, less its value."""
    extra = np.array([[-0.1, -0.2, -0.3]])
    adv = gae(np.array([1.0]), TURN, np.zeros((1, 3)), NONE, extra, gamma=1.0, lam=1.0)
    assert adv[0] == pytest.approx([0.4, 0.5, 0.7])


def test_return_to_go_against_the_same_turn() -> None:
    """Row 0: turns .5, 0, outcome 1 -> G = 1.5, 1. Row 1: 0, .2, outcome 0 -> .2, .2. Row 2, one turn: G = .4."""
    turn = np.array([[0, -1, 1], [0, -1, 1], [0, 0, -1]])
    rewards = np.array([[0.5, 0.0], [0.0, 0.2], [0.0, 0.0]])
    adv = return_to_go(np.array([1.0, 0.0, 0.4]), np.zeros(3, dtype=np.int64), turn, rewards)
    first, second = (1.5 + 0.2 + 0.4) / 3, (1.0 + 0.2) / 2
    assert adv == pytest.approx(
        np.array([[1.5 - first, 0, 1 - second], [0.2 - first, 0, 0.2 - second], [0.4 - first, 0.4 - first, 0]])
    )


def test_return_to_go_against_the_group_and_none() -> None:
    turn, rewards = np.array([[0, 1], [0, -1]]), np.zeros((2, 2))
    outcome, group = np.array([1.0, 0.0]), np.zeros(2, dtype=np.int64)
    plain = return_to_go(outcome, group, turn, rewards, gamma=0.5, baseline="none")
    assert plain == pytest.approx(np.array([[0.5, 1.0], [0.0, 0.0]]))
    mean = 1.5 / 3
    centred = return_to_go(outcome, group, turn, rewards, gamma=0.5, baseline="group")
    assert centred == pytest.approx(np.array([[0.5 - mean, 1 - mean], [-mean, 0]]))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gamma is 1\.5"):
        gae(np.array([1.0]), TURN, VALUES, NONE, gamma=1.5)
    with pytest.raises(ValueError, match="known: group, none, turn"):
        return_to_go(np.array([1.0]), np.array([0]), TURN, NONE, baseline="mean")  # type: ignore[arg-type]


def test_q_targets_skip_observations() -> None:
    """Tokens at columns 0, 3, 4 of row 0: targets are max Q at 3, max Q at 4, and the reward."""
    turn = np.array([[0, -1, -1, 1, 1], [-1, 0, -1, -1, -1]])
    best = np.array([[9.0, 8.0, 7.0, 0.4, 0.6], [9.0, 9.0, 9.0, 9.0, 9.0]])
    targets = q_targets(np.array([1.0, 0.5]), turn, best, gamma=0.5)
    assert targets == pytest.approx(np.array([[0.2, 0, 0, 0.3, 1.0], [0, 0.5, 0, 0, 0]]))
