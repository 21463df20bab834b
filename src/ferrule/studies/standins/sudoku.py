"""Sudoku of four by four cells: puzzles with one solution, as rows that a recursive network learns."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from itertools import permutations

import numpy as np

from ferrule.core.arrays import IntArray
from ferrule.data.canvas import CanvasRows, canvas
from ferrule.worlds.puzzles import Grid

__all__ = ["SIDE", "puzzle", "solutions", "sudoku_rows"]

SIDE = 4


@cache
def solutions() -> tuple[Grid, ...]:
    """Return all 288 filled grids: every row, column and quarter holds 1 to 4 once."""
    return tuple(_filled(()))


def _filled(rows: Grid) -> Iterator[Grid]:
    if len(rows) == SIDE:
        yield rows
        return
    for row in permutations(range(1, SIDE + 1)):
        columns = all(row[j] not in (above[j] for above in rows) for j in range(SIDE))
        quarters = len(rows) % 2 == 0 or all({*row[j : j + 2]}.isdisjoint(rows[-1][j : j + 2]) for j in (0, 2))
        if columns and quarters:
            yield from _filled((*rows, row))


@cache
def _cells() -> IntArray:
    return np.array(solutions()).reshape(-1, SIDE * SIDE)


def puzzle(rng: random.Random, solution: Grid) -> Grid:
    """Return a puzzle with that solution alone, from which no clue can be left out; 0 is an empty cell."""
    clues = np.array(solution).reshape(-1)
    for place in rng.sample(range(SIDE * SIDE), SIDE * SIDE):
        clue, clues[place] = clues[place], 0
        if ((_cells() == clues) | (clues == 0)).all(1).sum() > 1:
            clues[place] = clue
    return tuple(tuple(int(cell) for cell in row) for row in clues.reshape(SIDE, SIDE))


def sudoku_rows(count: int, *, seed: int, split: str = "train") -> CanvasRows:
    """Return ``count`` puzzles and their solutions; a fifth of all solutions occurs in the split ``test`` alone."""
    rng = random.Random(f"sudoku/{split}/{seed}")
    held = set(random.Random("held out").sample(range(len(solutions())), len(solutions()) // 5))
    pool = [grid for place, grid in enumerate(solutions()) if (place in held) == (split == "test")]
    chosen = [rng.choice(pool) for _ in range(count)]
    inputs = np.array([canvas(puzzle(rng, grid), SIDE) for grid in chosen])
    return CanvasRows(inputs, np.array([canvas(grid, SIDE) for grid in chosen]), np.zeros(count, dtype=np.int64))
