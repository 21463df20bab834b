"""Scores of two attempts: a worked example of both averages, and what counts as right."""

from __future__ import annotations

import pytest

from ferrule.rewards.grids import Totals, right, totals, two_attempts
from ferrule.rewards.verify import verify
from ferrule.worlds.puzzles import Attempts, submission

A, B = ((1, 2), (3, 4)), ((1, 2), (3, 0))


def test_both_averages() -> None:
    """(1 + 2/3) / 2 = .8333 over tasks, 3 of 4 outputs, one task in full."""
    result = totals([[True], [True, False, True]])
    assert (result.by_task, result.by_output, result.solved) == (pytest.approx(0.8333, abs=1e-4), 0.75, 1)
    assert totals([]) == Totals(0.0, 0.0, 0)


def test_either_attempt_counts() -> None:
    given: list[Attempts] = [(B, A), (B, None)]
    assert right(given, [A, A, A]) == [True, False, False]  # the third has no attempt
    assert right([(((1, 2),), None)], [A]) == [False]


def test_the_verifier_reads_an_answer() -> None:
    gold = "[[[1,2],[3,4]],[[1,2],[3,0]]]"
    assert verify("grids", submission([(B, A), (A, A)]), gold) == 0.5
    assert verify("grids", "no idea", gold) == 0.0
    with pytest.raises(ValueError, match="needs JSON text of a list of grids"):
        two_attempts("[[1]]", [[1]])
