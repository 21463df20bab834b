"""How many calls to make: the start, the exact numbers, and that episodes follow them."""

from __future__ import annotations

import numpy as np
import pytest

from ferrule.studies.standins.calls import bell, expected, play, play_group, questions
from ferrule.studies.table import Player

CHANCES = {"easy": (0.9, 0.9, 0.9), "hard": (0.1, 0.5, 0.8)}


def test_the_start_is_a_bell() -> None:
    """Two calls from the centre at a deviation of 1: -1/2 * 2^2."""
    assert bell(CHANCES, near=2, spread=1.0).tolist() == [[-2.0, -0.5, 0.0]] * 2


def test_expected_calls_and_accuracy() -> None:
    """Half no call, half two calls: one call on average, accuracy (.1 + .8) / 2."""
    numbers = expected(np.asarray([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]]), CHANCES)
    wanted = {"calls_easy": 1, "accuracy_easy": 0.9, "calls_hard": 1, "accuracy_hard": 0.45}
    assert numbers == pytest.approx(wanted)


def test_episodes_follow_the_table() -> None:
    chance_SA, rng = np.asarray([[1.0, 0.0, 0.0], [0.2, 0.2, 0.6]]), np.random.default_rng(100)
    numbers = expected(chance_SA, CHANCES)
    for task in questions(CHANCES):
        singly = [play(task, Player(chance_SA, rng), chances=CHANCES) for _ in range(2000)]
        for episodes in (singly, play_group(task, chance_SA, rng, 2000, chances=CHANCES)):
            assert np.mean([len(t.calls) for t in episodes]) == pytest.approx(numbers[f"calls_{task.id}"], abs=0.06)
            right = np.mean([t.answer == task.answer for t in episodes])
            assert right == pytest.approx(numbers[f"accuracy_{task.id}"], abs=0.04)
            assert {t.turns[0].sampled for t in episodes} <= {(3 * (task.id == "hard") + m,) for m in range(3)}
