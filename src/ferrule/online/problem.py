"""The small interface between a learner and what it decides about, and the loop that joins them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from ferrule.core.arrays import FloatArray

__all__ = ["Arms", "Chain", "Learner", "Problem", "play"]


@runtime_checkable
class Problem(Protocol):
    """A decision problem with numbered states and actions."""

    @property
    def states(self) -> int:
        """Number of states."""
        ...

    @property
    def actions(self) -> int:
        """Number of actions."""
        ...

    def reset(self, rng: np.random.Generator) -> int:
        """Start an episode and return its first state."""
        ...

    def step(self, state: int, action: int, rng: np.random.Generator) -> tuple[float, int, bool]:
        """Act in a state; return reward, next state and whether the episode is over."""
        ...


@runtime_checkable
class Learner(Protocol):
    """Something that chooses actions and learns from what they bring."""

    def act(self, state: int, rng: np.random.Generator) -> int:
        """Choose an action."""
        ...

    def learn(self, state: int, action: int, reward: float, next_state: int, done: bool) -> None:
        """Take in one transition."""
        ...


def play(problem: Problem, learner: Learner, episodes: int, *, seed: int = 0, longest: int = 1000) -> FloatArray:
    """Let ``learner`` act and learn for ``episodes`` episodes and return the sum of rewards of each.

    An episode ends by itself or after ``longest`` steps. The same seed gives the same result.
    """
    rng = np.random.default_rng(seed)
    totals = np.zeros(episodes)
    for episode in range(episodes):
        state = problem.reset(rng)
        for _ in range(longest):
            action = learner.act(state, rng)
            reward, next_state, done = problem.step(state, action, rng)
            learner.learn(state, action, reward, next_state, done)
            totals[episode] += reward
            state = next_state
            if done:
                break
    return totals


@dataclass(frozen=True)
class Arms:
    """A bandit problem: row ``s`` of ``chances_SA`` holds the chance of reward 1 for every action in context ``s``.

    Contexts are drawn evenly and every episode is one action long.
    """

    chances_SA: FloatArray

    @property
    def states(self) -> int:
        """Number of contexts."""
        return int(self.chances_SA.shape[0])

    @property
    def actions(self) -> int:
        """Number of arms."""
        return int(self.chances_SA.shape[1])

    def reset(self, rng: np.random.Generator) -> int:
        """Draw a context."""
        return int(rng.integers(self.states))

    def step(self, state: int, action: int, rng: np.random.Generator) -> tuple[float, int, bool]:
        """Pull an arm."""
        return float(rng.random() < self.chances_SA[state, action]), state, True


@dataclass(frozen=True)
class Chain:
    """A walk along ``length`` cells from the left end: action 1 goes right, 0 left; reward 1 at the right end.

    A greedy start learns nothing here, so it tells learners apart that carry value back from those that do not.
    """

    length: int = 5

    @property
    def states(self) -> int:
        """Number of cells."""
        return self.length

    @property
    def actions(self) -> int:
        """Left and right."""
        return 2

    def reset(self, rng: np.random.Generator) -> int:
        """Start at the left end."""
        return 0

    def step(self, state: int, action: int, rng: np.random.Generator) -> tuple[float, int, bool]:
        """Move one cell."""
        cell = min(self.length - 1, max(0, state + (1 if action == 1 else -1)))
        done = cell == self.length - 1
        return float(done), cell, done
