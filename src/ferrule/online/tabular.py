"""Tabular learners: Q-learning, bandits by counts, and a softmax policy.

Source for Q-learning: "A Technical Survey of Reinforcement Learning Techniques for Large Language Models" (52).
"""

from __future__ import annotations

import math

import numpy as np

from ferrule.core.arrays import FloatArray

__all__ = ["UCB", "Greedy", "QLearner", "SoftmaxLearner", "Thompson", "softmax"]


def softmax(logits_A: FloatArray) -> FloatArray:
    """Return ``exp(logits) / sum(exp(logits))`` along the last axis, safe for large logits."""
    shifted = np.exp(logits_A - np.max(logits_A, axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float64)


def _best(values_A: FloatArray, rng: np.random.Generator) -> int:
    """Index of the largest value, ties drawn evenly."""
    return int(rng.choice(np.flatnonzero(values_A == values_A.max())))


class QLearner:
    """Tabular Q-learning with epsilon-greedy exploration: ``Q[s, a] += alpha (r + gamma max Q[s'] - Q[s, a])``.

    Nothing is bootstrapped at the end of an episode. ``value_SA`` is the table. Source: survey 52.
    """

    def __init__(
        self, states: int, actions: int, *, alpha: float = 0.1, gamma: float = 1.0, epsilon: float = 0.1
    ) -> None:
        if not (0 < alpha <= 1 and 0 <= gamma <= 1 and 0 <= epsilon <= 1):
            raise ValueError(
                f"QLearner needs alpha in (0, 1], gamma and epsilon in [0, 1], not {alpha}, {gamma}, {epsilon}"
            )
        self.value_SA = np.zeros((states, actions))
        self.alpha, self.gamma, self.epsilon = alpha, gamma, epsilon

    def act(self, state: int, rng: np.random.Generator) -> int:
        """Explore with chance ``epsilon``, otherwise take the best action."""
        if rng.random() < self.epsilon:
            return int(rng.integers(self.value_SA.shape[1]))
        return _best(self.value_SA[state], rng)

    def learn(self, state: int, action: int, reward: float, next_state: int, done: bool) -> None:
        """Move one entry towards its target."""
        target = reward + (0.0 if done else self.gamma * float(self.value_SA[next_state].max()))
        self.value_SA[state, action] += self.alpha * (target - self.value_SA[state, action])


class Greedy:
    """Epsilon-greedy bandit on mean rewards per context and arm."""

    def __init__(self, states: int, actions: int, *, epsilon: float = 0.1) -> None:
        self.mean_SA = np.zeros((states, actions))
        self.count_SA = np.zeros((states, actions))
        self.epsilon = epsilon

    def act(self, state: int, rng: np.random.Generator) -> int:
        """Explore with chance ``epsilon``, otherwise pull the best arm so far."""
        if rng.random() < self.epsilon:
            return int(rng.integers(self.mean_SA.shape[1]))
        return _best(self.mean_SA[state], rng)

    def learn(self, state: int, action: int, reward: float, next_state: int, done: bool) -> None:
        """Update the running mean of the arm."""
        self.count_SA[state, action] += 1
        self.mean_SA[state, action] += (reward - self.mean_SA[state, action]) / self.count_SA[state, action]


class UCB(Greedy):
    """Upper confidence bound bandit: pulls the arm with the largest ``mean + width sqrt(ln n / n_a)``."""

    def __init__(self, states: int, actions: int, *, width: float = math.sqrt(2.0)) -> None:
        super().__init__(states, actions, epsilon=0.0)
        self.width = width

    def act(self, state: int, rng: np.random.Generator) -> int:
        """Pull an untried arm first, then the one with the highest bound."""
        count_A = self.count_SA[state]
        if (count_A == 0).any():
            return int(rng.choice(np.flatnonzero(count_A == 0)))
        return _best(self.mean_SA[state] + self.width * np.sqrt(math.log(count_A.sum()) / count_A), rng)


class Thompson:
    """Thompson sampling for rewards in 0 to 1: a Beta posterior per context and arm."""

    def __init__(self, states: int, actions: int) -> None:
        self.won_SA = np.ones((states, actions))
        self.lost_SA = np.ones((states, actions))

    def act(self, state: int, rng: np.random.Generator) -> int:
        """Draw a chance for every arm from its posterior and pull the best."""
        return _best(rng.beta(self.won_SA[state], self.lost_SA[state]), rng)

    def learn(self, state: int, action: int, reward: float, next_state: int, done: bool) -> None:
        """Count a reward between 0 and 1 as that share of a win; raises ``ValueError`` outside."""
        if not 0.0 <= reward <= 1.0:
            raise ValueError(f"Thompson takes rewards between 0 and 1, not {reward}")
        self.won_SA[state, action] += reward
        self.lost_SA[state, action] += 1.0 - reward


class SoftmaxLearner:
    """Softmax policy with REINFORCE and a running baseline: ``logits[s] += lr (r - b[s]) (onehot(a) - pi[s])``.

    For single-action episodes. ``logits_SA`` is the table; ``track`` the share by which the baseline follows rewards.
    """

    def __init__(self, states: int, actions: int, *, learning_rate: float = 0.1, track: float = 0.05) -> None:
        self.logits_SA = np.zeros((states, actions))
        self.baseline_S = np.zeros(states)
        self.learning_rate, self.track = learning_rate, track

    def act(self, state: int, rng: np.random.Generator) -> int:
        """Draw an action from the policy."""
        return int(rng.choice(self.logits_SA.shape[1], p=softmax(self.logits_SA[state])))

    def learn(self, state: int, action: int, reward: float, next_state: int, done: bool) -> None:
        """Take one policy-gradient step."""
        slope_A = -softmax(self.logits_SA[state])
        slope_A[action] += 1.0
        self.logits_SA[state] += self.learning_rate * (reward - self.baseline_S[state]) * slope_A
        self.baseline_S[state] += self.track * (reward - self.baseline_S[state])
