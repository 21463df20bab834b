"""Problems that need one of eight procedures: what a table is expected to solve."""

from __future__ import annotations

import numpy as np
import pytest

from ferrule.studies.standins import procedures


def test_expected_accuracies() -> None:
    """Two procedures in use: an abstraction that is always right and always followed solves half of the problems."""
    posterior = np.zeros((procedures.CUES, 8))
    posterior[:, :2] = 0.5
    chance = np.zeros((procedures.RUN + 8, 8))
    chance[: procedures.CUES, :2] = 0.5
    pick = chance[procedures.PICK : procedures.RUN].reshape(procedures.CUES, 9, 8)
    pick[:, :8] = np.eye(8)
    pick[:, 8, 2] = 1.0
    chance[procedures.RUN :, 0] = 0.5
    world = procedures.World(posterior, np.zeros((1, 8)))
    numbers = procedures.expected(world, chance, chance[: procedures.CUES])
    assert (numbers["with"], numbers["without"], numbers["swapped"]) == (0.25, 0.0, 0.25)
    assert numbers["harder with"] == 0.0625
    assert numbers["1x16"] == pytest.approx(0.5 * (1 - 0.5**16))
    assert numbers["16x1"] == pytest.approx(1 - 0.75**16)
    assert numbers["4x4"] == pytest.approx(1 - ((1 + 0.5**4) / 2) ** 4)
    assert numbers["best of 4"] == pytest.approx(0.5 * (1 - 0.5**4), abs=0.02)
