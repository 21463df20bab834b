"""Sudoku of four by four: all filled grids, puzzles with one solution and no idle clue, and splits that are apart."""

from __future__ import annotations

import random

import numpy as np

from ferrule.data.canvas import grid_on
from ferrule.studies.standins.sudoku import SIDE, puzzle, solutions, sudoku_rows


def fits(clues: np.ndarray) -> int:
    cells = np.array(solutions()).reshape(-1, SIDE * SIDE)
    return int(((cells == clues) | (clues == 0)).all(1).sum())


def test_all_filled_grids() -> None:
    """There are 288, each with 1 to 4 once in every row, column and quarter."""
    assert len(set(solutions())) == 288
    for grid in solutions()[::37]:
        cells = np.array(grid)
        parts = [*cells, *cells.T, *(cells[i : i + 2, j : j + 2].flatten() for i in (0, 2) for j in (0, 2))]
        assert all(sorted(part.tolist()) == [1, 2, 3, 4] for part in parts)


def test_puzzles_have_one_solution_and_no_idle_clue() -> None:
    rng = random.Random(0)
    for solution in solutions()[::60]:
        clues = np.array(puzzle(rng, solution)).flatten()
        assert fits(clues) == 1
        for place in np.flatnonzero(clues):
            fewer = clues.copy()
            fewer[place] = 0
            assert fits(fewer) > 1


def test_rows_of_the_splits_share_no_solution() -> None:
    train, test = (sudoku_rows(60, seed=1, split=split) for split in ("train", "test"))
    assert not {row.tobytes() for row in train.output_NT} & {row.tobytes() for row in test.output_NT}
    assert grid_on(train.output_NT[0], SIDE) in solutions()
    assert (np.where(train.input_NT == 2, train.output_NT, train.input_NT) == train.output_NT).all()
