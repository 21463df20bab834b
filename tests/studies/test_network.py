"""A network in place of rows: its logits, what it imitates, and that states share what they learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ferrule.studies.network import BARRED, fitted, layers, weight_count
from ferrule.studies.table import Weights


def test_logits_by_hand() -> None:
    """One feature, one unit, two actions: tanh(2 * 1 + 0) * (3, 0) + (0, 1), the second out of reach in state 2."""
    tie = layers(np.asarray([[1.0], [0.0]]), np.asarray([[0.0, 0.0], [0.0, BARRED]]), hidden=1)
    weights = torch.tensor([2.0, 0.0, 3.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    assert len(weights) == weight_count(1, 1, 2)
    assert tie(weights).numpy() == pytest.approx(np.asarray([[3 * np.tanh(2.0), 1.0], [0.0, BARRED + 1]]))


def test_imitation_reaches_the_wanted_chances_of_states_that_count() -> None:
    """States 0 and 1 share a feature; state 1 does not count and still follows."""
    features = np.asarray([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    wanted = np.asarray([[0.9, 0.1], [0.0, 0.0], [0.2, 0.8]])
    tie = layers(features, np.zeros((3, 2)), hidden=4)
    start = np.random.default_rng(100).normal(0.0, 0.3, weight_count(2, 4, 2))
    weights = fitted(start, tie, wanted, np.asarray([1.0, 0.0, 1.0]))
    chance_SA = Weights(weights, tie).chance_SA
    assert chance_SA[[0, 2]] == pytest.approx(wanted[[0, 2]], abs=0.02)
    assert chance_SA[1].tolist() == chance_SA[0].tolist()
