"""Learners on problems whose best answer is known, and the arithmetic of their updates."""

from __future__ import annotations

import numpy as np
import pytest

from ferrule.evaluate.metrics import student_interval
from ferrule.online.problem import Arms, Chain, Learner, Problem, play
from ferrule.online.tabular import UCB, Greedy, QLearner, SoftmaxLearner, Thompson, softmax

ARMS = Arms(np.array([[0.1, 0.9, 0.2], [0.8, 0.1, 0.3]]))


def test_q_update() -> None:
    """alpha .5: 0 + .5 (1 + .9 * 2 - 0) = 1.4; at the end of an episode nothing is bootstrapped: 0 + .5 * 1 = .5."""
    learner = QLearner(2, 2, alpha=0.5, gamma=0.9)
    learner.value_SA[1] = [2.0, -1.0]
    learner.learn(0, 0, 1.0, 1, False)
    learner.learn(0, 1, 1.0, 1, True)
    assert learner.value_SA[0].tolist() == pytest.approx([1.4, 0.5])


def test_q_learning_carries_value_back_along_a_chain() -> None:
    """With gamma .9 the value of going right from cell k of 5 is .9 ** (3 - k)."""
    learner = QLearner(5, 2, alpha=0.5, gamma=0.9, epsilon=0.3)
    play(Chain(5), learner, 400, seed=1)
    assert learner.value_SA[:4, 1] == pytest.approx([0.9**3, 0.9**2, 0.9, 1.0], abs=0.02)
    assert learner.value_SA[:4].argmax(1).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "learner",
    [
        QLearner(2, 3, alpha=0.1),
        Greedy(2, 3),
        UCB(2, 3),
        Thompson(2, 3),
        SoftmaxLearner(2, 3, learning_rate=0.3),
    ],
    ids=["q", "greedy", "ucb", "thompson", "softmax"],
)
def test_every_learner_finds_the_best_arm_of_each_context(learner: Learner) -> None:
    """The best arms pay .9 and .8; chance pays .4. Late rewards of a learner must come near .85."""
    assert isinstance(ARMS, Problem)
    assert isinstance(learner, Learner)
    totals = play(ARMS, learner, 3000, seed=2)
    assert totals[-1000:].mean() > 0.75


def test_play_is_the_same_for_the_same_seed() -> None:
    first, second = (play(ARMS, Thompson(2, 3), 200, seed=7) for _ in range(2))
    assert first.tolist() == second.tolist()
    assert first.tolist() != play(ARMS, Thompson(2, 3), 200, seed=8).tolist()


def test_softmax_is_safe_for_large_logits() -> None:
    assert softmax(np.array([1e4, 1e4 + np.log(3)])) == pytest.approx([0.25, 0.75])


def test_settings_and_rewards_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha"):
        QLearner(1, 1, alpha=0.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Thompson(1, 1).learn(0, 0, 2.0, 0, True)


def test_student_interval() -> None:
    """1, 2, 3: mean 2, sd 1, t for 2 degrees of freedom 4.303: half width 4.303 / sqrt(3) = 2.484."""
    assert student_interval([1, 2, 3]) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)
    with pytest.raises(ValueError, match="at least 2"):
        student_interval([1])
