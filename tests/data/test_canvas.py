"""Canvases, variants of puzzles and the vote: worked examples, and that everything can be undone."""

from __future__ import annotations

import numpy as np
import pytest

from ferrule.data.canvas import CanvasRows, Variant, canvas, grid_on, rows_of, variants, vote
from ferrule.worlds.puzzles import Grid, Puzzle

GRID = ((0, 9), (3, 4), (1, 1))
A: Grid = ((1,),)
B: Grid = ((2,),)


def test_a_grid_on_a_canvas() -> None:
    """Colours are 2 more; a mark (1) stands right of every row and below every column, the rest is 0."""
    symbols = canvas(GRID, 6)
    rows = [[2, 11, 1, 0, 0, 0], [5, 6, 1, 0, 0, 0], [3, 3, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0] * 6, [0] * 6]
    assert symbols.reshape(6, 6).tolist() == rows
    assert grid_on(symbols, 6) == GRID
    assert canvas(A, 1).tolist() == [3]  # no room for marks
    moved = canvas(A, 3, down=1, right=1)
    assert moved.tolist() == [0, 0, 0, 0, 3, 1, 0, 1, 0]
    with pytest.raises(ValueError, match="a grid of 3 by 2 does not fit on 2 by 2"):
        canvas(GRID, 2)


def test_a_stray_mark_costs_what_lies_behind_it() -> None:
    full = canvas(tuple(tuple([1] * 4) for _ in range(4)), 5)
    full[2] = 1  # row 0, column 2: of 4 x 2 and nothing else from the corner, 8 cells are the most
    assert grid_on(full, 5) == tuple((1, 1) for _ in range(4))
    full[0] = 0
    assert grid_on(full, 5) is None


def test_variants_can_be_undone_and_leave_the_background() -> None:
    drawn = variants(40, seed=3)
    assert drawn[0].apply(GRID) == GRID
    assert len(set(drawn)) == 40
    assert {variant.turn for variant in drawn} == set(range(8))
    assert all(variant.undo(variant.apply(GRID)) == GRID for variant in drawn)
    assert all(variant.colours[0] == 0 and sorted(variant.colours) == list(range(10)) for variant in drawn)
    assert Variant(turn=1).apply(((1, 2), (3, 4))) == ((2, 4), (1, 3))  # a quarter to the left
    assert Variant(turn=4).apply(((1, 2), (3, 4))) == ((2, 1), (4, 3))
    assert len({Variant(turn=turn).apply(((1, 2), (3, 4))) for turn in range(8)}) == 8


def test_rows_of_puzzles() -> None:
    puzzle = Puzzle("p", ((A, B), (((0, 1),), ((0, 2),))), (A,), (((7,),),))
    rows, known = rows_of([puzzle, puzzle], 3, copies=4, seed=1)
    assert rows.task_N.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    assert [number for _, number in known[1]] == [4, 5, 6, 7]
    assert rows.input_NT.shape == rows.output_NT.shape == (16, 9)
    filled = [((row >= 2).nonzero()[0][0]) for row in (*rows.input_NT[:1], *rows.output_NT[:1])]
    assert filled[0] == filled[1]  # input and output are moved alike
    still, _ = rows_of([puzzle], 3, copies=1, moved=False)
    assert grid_on(still.input_NT[1], 3) == ((0, 1),)
    with pytest.raises(ValueError, match="differ in number"):
        CanvasRows(np.zeros((2, 1), int), np.zeros((2, 1), int), np.zeros(1, int))


def test_the_vote_counts_first() -> None:
    assert vote([(A, 0.1), (B, 0.9), (A, 0.2)]) == (A, B)
    assert vote([(A, 0.1), (B, 0.9), (None, 1.0)]) == (B, A)
    assert vote([(A, 0.1), (None, 1.0)]) == (A, A)
    assert vote([(None, 1.0)]) == (None, None)
