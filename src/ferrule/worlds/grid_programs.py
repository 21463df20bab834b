"""A small language of programs on grids: names of steps one after the other, and puzzles that such programs explain.

The steps are plain functions on lists of rows that stand by themselves, so that a program is Python source as well.
All of them take any grid, and none leaves a grid without a cell.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from typing import TypeAlias

from ferrule.core.arrays import nearest
from ferrule.worlds.puzzles import Grid, Pair, Puzzle

__all__ = ["PRIVATE", "STEPS", "Program", "carry_out", "draw_puzzle", "programs", "source_of"]

Rows: TypeAlias = list[list[int]]
Program: TypeAlias = tuple[str, ...]
"""Names of steps, carried out from the first to the last."""


def flip(grid: Rows) -> Rows:
    """Mirror left and right."""
    return [row[::-1] for row in grid]


def upend(grid: Rows) -> Rows:
    """Mirror top and bottom."""
    return grid[::-1]


def turn(grid: Rows) -> Rows:
    """Turn to the right by a quarter."""
    return [list(column) for column in zip(*grid[::-1], strict=True)]


def slide(grid: Rows) -> Rows:
    """Move everything one column to the right, the last column to the front."""
    return [row[-1:] + row[:-1] for row in grid]


def sink(grid: Rows) -> Rows:
    """Move everything one row down, the last row to the top."""
    return grid[-1:] + grid[:-1]


def drop(grid: Rows) -> Rows:
    """Let all colours fall to the bottom of their column."""
    columns = [
        [cell for cell in column if not cell] + [cell for cell in column if cell] for column in zip(*grid, strict=True)
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def next_colour(grid: Rows) -> Rows:
    """Replace every colour by the next one, 9 by 1."""
    return [[cell % 9 + 1 if cell else 0 for cell in row] for row in grid]


def crop(grid: Rows) -> Rows:
    """Cut to the smallest part that holds all colours; a grid without any stays."""
    rows = [i for i, row in enumerate(grid) if any(row)]
    columns = [i for i, column in enumerate(zip(*grid, strict=True)) if any(column)]
    if not rows:
        return grid
    return [row[columns[0] : columns[-1] + 1] for row in grid[rows[0] : rows[-1] + 1]]


def fold(grid: Rows) -> Rows:
    """Show the left half on the right as in a mirror."""
    return [[row[min(i, len(row) - 1 - i)] for i in range(len(row))] for row in grid]


def fill(grid: Rows) -> Rows:
    """Paint the background in the most frequent colour, of equals the smallest."""
    cells = [cell for row in grid for cell in row if cell]
    most = max(sorted(set(cells)), key=cells.count) if cells else 0
    return [[cell or most for cell in row] for row in grid]


def frame(grid: Rows) -> Rows:
    """Paint the outermost cells grey (5)."""
    last, end = len(grid) - 1, len(grid[0]) - 1
    return [
        [5 if i in (0, last) or j in (0, end) else cell for j, cell in enumerate(row)] for i, row in enumerate(grid)
    ]


def halve(grid: Rows) -> Rows:
    """Keep the upper half; a middle row stays."""
    return grid[: (len(grid) + 1) // 2]


def invert(grid: Rows) -> Rows:
    """Paint the background in the smallest colour, and all colours as background."""
    least = min((cell for row in grid for cell in row if cell), default=1)
    return [[0 if cell else least for cell in row] for row in grid]


def rarest(grid: Rows) -> Rows:
    """Keep only the rarest colour, of equals the smallest."""
    cells = [cell for row in grid for cell in row if cell]
    least = min(sorted(set(cells)), key=cells.count) if cells else 0
    return [[cell if cell == least else 0 for cell in row] for row in grid]


def checker(grid: Rows) -> Rows:
    """Clear every second cell, as on a board; the first one stays."""
    return [[0 if (i + j) % 2 else cell for j, cell in enumerate(row)] for i, row in enumerate(grid)]


def copies(grid: Rows) -> Rows:
    """Put the upper left cell on the whole diagonal."""
    return [[grid[0][0] if i == j else cell for j, cell in enumerate(row)] for i, row in enumerate(grid)]


STEPS: Mapping[str, Callable[[Rows], Rows]] = {
    step.__name__: step for step in (flip, upend, turn, slide, sink, drop, next_colour, crop, fold, fill, frame, halve)
}
"""The twelve steps that puzzles are made of."""
PRIVATE: Mapping[str, Callable[[Rows], Rows]] = {step.__name__: step for step in (invert, rarest, checker, copies)}
"""Steps that occur in private puzzles only, which nothing should be developed or trained on."""


def carry_out(program: Program, grid: Grid) -> Grid:
    """Return the grid after all steps. Raises ``ValueError`` for an unknown step, naming the nearest."""
    known = {**STEPS, **PRIVATE}
    rows = [list(row) for row in grid]
    for name in program:
        if name not in known:
            raise ValueError(f"unknown step {name!r}; {nearest(name, list(known))}")
        rows = known[name](rows)
    return tuple(tuple(row) for row in rows)


def programs(depth: int, names: Sequence[str] = tuple(STEPS)) -> Iterator[Program]:
    """Yield all programs of a depth."""
    return product(names, repeat=depth)


@cache
def _text(name: str) -> str:
    return inspect.getsource({**STEPS, **PRIVATE}[name]).replace("Rows", "list")


def source_of(program: Program) -> str:
    """Return a program as Python source that defines ``transform(grid)``."""
    nested = "grid"
    for name in program:
        nested = f"{name}({nested})"
    parts = [_text(name) for name in dict.fromkeys(program)]
    return "\n\n".join([*parts, f"def transform(grid):\n    return {nested}\n"])


def draw_puzzle(
    rng: random.Random, name: str, program: Program, *, sides: tuple[int, int], pairs: int = 3, tests: int = 1,
) -> Puzzle | None:  # fmt: skip
    """Return a puzzle that ``program`` explains and no shorter one does, or None where the draw gave none.

    ``sides`` are the least and the largest side of inputs. A draw fails where an output equals its input or is all
    background, and where a shorter program of the same steps explains all pairs.
    """
    low, high = sides
    grids: list[Pair] = []
    for _ in range(pairs + tests):
        colours = rng.sample(range(1, 10), rng.randint(2, 3))
        height, width = rng.randint(low, high), rng.randint(low, high)
        rows = [[rng.choice(colours) if rng.random() < 0.55 else 0 for _ in range(width)] for _ in range(height)]
        grid = tuple(map(tuple, rows))
        output = carry_out(program, grid)
        if output == grid or not any(map(any, output)):
            return None
        grids.append((grid, output))
    known = tuple({**STEPS, **{step: PRIVATE[step] for step in program if step in PRIVATE}})
    for depth in range(1, len(program)):
        if any(all(carry_out(one, a) == b for a, b in grids) for one in programs(depth, known)):
            return None
    test = grids[pairs:]
    return Puzzle(name, tuple(grids[:pairs]), tuple(a for a, _ in test), tuple(b for _, b in test))
