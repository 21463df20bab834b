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
    chance[: procedures.HINTS, :2] = 0.5
    pick = chance[procedures.PICK : procedures.RUN].reshape(procedures.CUES, 9, 8)
    pick[:, :8] = np.eye(8)
    pick[:, 8, 2] = 1.0
    chance[procedures.RUN :, 0] = 0.5
    world = procedures.World(posterior, np.full((8, 8), 1 / 8), np.zeros((1, 8)))
    numbers = procedures.expected(world, chance, chance[: procedures.HINTS])
    assert numbers["named"] == 0.5
    assert (numbers["with"], numbers["without"], numbers["swapped"]) == (0.25, 0.0, 0.25)
    assert numbers["harder with"] == 0.0625
    assert numbers["1x16"] == pytest.approx(0.5 * (1 - 0.5**16))
    assert numbers["16x1"] == pytest.approx(1 - 0.75**16)
    assert numbers["4x4"] == pytest.approx(1 - ((1 + 0.5**4) / 2) ** 4)
    assert numbers["best of 4"] == pytest.approx(0.5 * (1 - 0.5**4), abs=0.02)


def test_a_proposer_that_reads_hints_tells_the_procedure() -> None:
    """Whoever names the procedure of a hint is right in 0.8 of all problems; a foreign hint tells as much as chance.

    Both players never fail otherwise, so that accuracy is the share named: 0.8, and with a foreign hint 1/8, because
    every procedure is equally likely under every cue.
    """
    drawn = procedures.make_world(np.random.default_rng(0))
    world = procedures.World(np.full((procedures.CUES, 8), 1 / 8), drawn.hints, drawn.start)
    chance = np.zeros((procedures.RUN + 8, 8))
    chance[: procedures.HINTS] = (drawn.hints == drawn.hints.max(1, keepdims=True)).T
    pick = chance[procedures.PICK : procedures.RUN].reshape(procedures.CUES, 9, 8)
    pick[:, :8] = np.eye(8)
    chance[procedures.RUN :, 0] = 1.0
    numbers = procedures.expected(world, chance, chance[: procedures.HINTS])
    assert numbers["named"] == pytest.approx(0.8)
    assert numbers["with"] == numbers["1x16"] == pytest.approx(0.8)
    assert numbers["swapped"] == pytest.approx(1 / 8)
    drawn_right = [procedures.make_task(drawn, i, np.random.default_rng(i)).meta["hint"] for i in range(200)]
    assert len(set(drawn_right)) == procedures.HINTS
