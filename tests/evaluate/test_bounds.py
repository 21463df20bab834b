"""Bounds on generalisation: worked numbers, and a shift that does not vanish."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.contracts.checks import MIXED

from ferrule.evaluate import bounds


@pytest.mark.parametrize(
    ("kl", "tasks", "expected"), [(0, 100, 0.2731), (5, 100, 0.3344), (5, 1000, 0.1779), (50, 1000, 0.2690)]
)
def test_pac_bayes(kl: float, tasks: int, expected: float) -> None:
    assert bounds.pac_bayes(0.1, kl, tasks) == pytest.approx(expected, abs=1e-4)


def test_bounds_refuse_what_is_no_risk() -> None:
    for settings in ((2.0, 0.0, 10), (0.1, -1.0, 10), (0.1, 0.0, 0)):
        with pytest.raises(ValueError, match="must lie in 0 to 1"):
            bounds.pac_bayes(*settings)


def test_a_shift_does_not_vanish() -> None:
    """Expectations of the value (1, 0) under the two distributions differ by .25 whatever the number of tasks."""
    shift = bounds.total_variation([0.5, 0.5], [0.75, 0.25])
    assert shift == 0.25
    for tasks in (100, 1_000_000):
        assert bounds.transfer_bound(0.1, 5, tasks, shift) - bounds.pac_bayes(0.1, 5, tasks) == pytest.approx(0.25)
    kl = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert bounds.pinsker(kl) >= shift


def test_divergence_is_over_trajectories() -> None:
    """Two rows of 3 and 1 model tokens, each .5 nats above the reference: (1.5 + .5) / 2."""
    turn_NT = np.asarray([[0, -1, 0, 1], [0, -1, -1, -1]])
    logp_NT = np.where(turn_NT >= 0, -1.0, 99.0)
    signals = replace(MIXED, turn_NT=turn_NT, logp_NT=logp_NT, ref_NT=np.full((2, 4), -1.5))
    assert bounds.trajectory_kl(signals) == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"Recipe\.reference"):
        bounds.trajectory_kl(replace(signals, ref_NT=None))
