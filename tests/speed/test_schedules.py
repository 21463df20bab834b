"""Schedules over waiting models and tools."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ferrule.speed.schedules import asynchronous_seconds, exponential, heavy, lock_step_seconds, race


def test_schedules_of_two_trajectories() -> None:
    """Lock-step: (2 + 5) + (3 + 0) = 10 s. Alone A takes 6 s and B 7 s."""
    times = [[(2, 1), (3, 0)], [(1, 5), (1, 0)]]
    assert lock_step_seconds(times) == 10
    assert asynchronous_seconds(times) == 7
    assert lock_step_seconds([[(1, 0)], [(2, 1), (1, 1)]]) == 5
    assert (lock_step_seconds([]), asynchronous_seconds([])) == (0, 0)


def test_both_schedules_leave_the_same_tokens() -> None:
    measured = race(heavy, 3, seed=5, trajectories=12, mean=0.001)
    assert measured["same"] == 1.0
    assert measured["least lock-step"] > measured["least asynchronous"] > 0


def test_laws_have_mean_one() -> None:
    """Lomax with index 2: mean 1 / (2 - 1) = 1; its spread is infinite, so the mean is taken from quantiles."""
    rng = random.Random(0)
    assert np.mean([exponential(rng) for _ in range(20_000)]) == pytest.approx(1, abs=0.03)
    drawn = np.sort([heavy(rng) for _ in range(20_000)])
    assert np.median(drawn) == pytest.approx(2**0.5 - 1, abs=0.02)
    assert drawn[-200] == pytest.approx(9.0, rel=0.2)  # 1 % lie beyond 0.01 ** -0.5 - 1
