"""Grids as rows of symbols on a square canvas, the ways to vary a puzzle, and the vote over what comes back.

Source: "ARC Prize 2025: Technical Report" (16), its tiny recursive models.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ferrule.core.arrays import IntArray
from ferrule.worlds.puzzles import COLOURS, Attempts, Grid, Pair, Puzzle

__all__ = ["PAD", "SYMBOLS", "CanvasRows", "Variant", "canvas", "grid_on", "rows_of", "variants", "vote"]

PAD, BORDER, SYMBOLS = 0, 1, COLOURS + 2
"""Symbols: nothing, the mark right of and below a grid, and the number of all (colours are 2 to 11)."""


def canvas(grid: Grid, side: int, *, down: int = 0, right: int = 0) -> IntArray:
    """Return a grid as ``side * side`` symbols, ``down`` rows and ``right`` columns from the upper left corner.

    Raises ``ValueError`` for a grid that does not fit.
    """
    height, width = len(grid) + down, len(grid[0]) + right
    if height > side or width > side:
        raise ValueError(f"a grid of {len(grid)} by {len(grid[0])} does not fit on {side} by {side} cells there")
    symbols = np.zeros((side + 1, side + 1), dtype=np.int64)
    symbols[down:height, right:width] = np.array(grid) + 2
    symbols[down:height, width] = BORDER
    symbols[height, right:width] = BORDER
    return symbols[:side, :side].reshape(-1)


def grid_on(symbol_T: IntArray, side: int) -> Grid | None:
    """Return the grid on a canvas: of the rectangles of colours from the upper left corner the one of most cells.

    None where the corner has no colour. One stray mark inside a grid costs all that lies behind it.
    """
    symbols = symbol_T.reshape(side, side)
    best, area, width = (0, 0), 0, side
    for height in range(1, side + 1):
        filled = symbols[height - 1, :width] >= 2
        width = width if filled.all() else int(filled.argmin())
        if height * width > area:
            best, area = (height, width), height * width
    if not area:
        return None
    return tuple(tuple(int(cell) - 2 for cell in row) for row in symbols[: best[0], : best[1]])


@dataclass(frozen=True)
class Variant:
    """A way to vary a puzzle: one of 8 turns and mirrorings, and another colour for each (0 stays 0)."""

    turn: int = 0
    colours: tuple[int, ...] = tuple(range(COLOURS))

    def apply(self, grid: Grid) -> Grid:
        """Return the grid mirrored (turns of 4 and more), turned left by ``turn % 4`` quarters, and recoloured."""
        cells = np.array(self.colours)[np.array(grid)]
        return _grid(np.rot90(cells[:, ::-1] if self.turn >= 4 else cells, self.turn % 4))

    def undo(self, grid: Grid) -> Grid:
        """Return the grid that ``apply`` turns into this one."""
        cells = np.rot90(np.argsort(self.colours)[np.array(grid)], -(self.turn % 4))
        return _grid(cells[:, ::-1] if self.turn >= 4 else cells)


def _grid(cells: IntArray) -> Grid:
    return tuple(tuple(int(cell) for cell in row) for row in cells)


def variants(count: int, seed: object = 0) -> list[Variant]:
    """Return ``count`` different variants drawn by ``seed``, the first of which leaves everything as it is."""
    rng = random.Random(str(seed))
    drawn = {Variant(): None}
    while len(drawn) < count:
        colours = (0, *rng.sample(range(1, COLOURS), COLOURS - 1))
        drawn[Variant(rng.randrange(8), colours)] = None
    return list(drawn)[:count]


@dataclass(frozen=True)
class CanvasRows:
    """Rows to learn from: inputs and outputs as symbols, and the id of the task of each row."""

    input_NT: IntArray
    output_NT: IntArray
    task_N: IntArray

    def __post_init__(self) -> None:
        """Refuse arrays of different lengths."""
        if not len(self.input_NT) == len(self.output_NT) == len(self.task_N):
            raise ValueError("inputs, outputs and tasks of rows differ in number")


def rows_of(
    puzzles: Sequence[Puzzle], side: int, *, copies: int = 1000, moved: bool = True, seed: int = 0
) -> tuple[CanvasRows, list[list[tuple[Variant, int]]]]:
    """Return the demonstrations of puzzles under ``copies`` variants each, and by puzzle its variants with their ids.

    A variant of a puzzle is a task with an id of its own. Rows are ``moved`` to a random place on the canvas, input and
    output alike. Test grids are not among them.
    """
    rng = random.Random(seed)
    inputs, outputs, ids = [], [], []
    known: list[list[tuple[Variant, int]]] = []
    number = 0
    for puzzle in puzzles:
        known.append([])
        for variant in variants(copies, f"{seed}/{puzzle.id}"):
            for pair in puzzle.train:
                before, after = _moved((variant.apply(pair[0]), variant.apply(pair[1])), side, rng, moved)
                inputs.append(before)
                outputs.append(after)
                ids.append(number)
            known[-1].append((variant, number))
            number += 1
    return CanvasRows(np.array(inputs), np.array(outputs), np.array(ids)), known


def _moved(pair: Pair, side: int, rng: random.Random, moved: bool) -> tuple[IntArray, IntArray]:
    height, width = (max(sizes) for sizes in ([len(grid) for grid in pair], [len(grid[0]) for grid in pair]))
    down = rng.randint(0, side - height) if moved and height <= side else 0
    right = rng.randint(0, side - width) if moved and width <= side else 0
    before, after = (canvas(grid, side, down=down, right=right) for grid in pair)
    return before, after


def vote(answers: Sequence[tuple[Grid | None, float]]) -> Attempts:
    """Return the two answers given most often, of equals the one with the larger mean chance to be right.

    ``answers`` are grids with those chances; None does not count. Where there is one answer only it is given twice.
    """
    chances: dict[Grid, list[float]] = {}
    for grid, chance in answers:
        if grid is not None:
            chances.setdefault(grid, []).append(chance)
    order = sorted(chances, key=lambda grid: (-len(chances[grid]), -sum(chances[grid]) / len(chances[grid])))
    return (order[0], order[min(1, len(order) - 1)]) if order else (None, None)
