"""Puzzles on grids as a reader sees them: coloured cells in the terminal, and drawings in a page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ferrule.worlds.puzzles import Attempts, Grid, Puzzle, grid_of

__all__ = ["drawing", "drawn", "lines", "write_page"]

_COLOURS = ("000000", "1e74d9", "e8402f", "2eb24c", "f2d013", "9a9a9a", "d6249f", "f28019", "7fc9f2", "8a1c2c")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Puzzles on grids</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem; color-scheme: light dark; }}
svg {{ margin: 0 .4rem .6rem 0; vertical-align: middle; }} h2 {{ font-size: 1rem; }}</style></head>
<body>
{body}
</body></html>
"""


def _beside(grids: Sequence[Grid], colour: bool) -> list[str]:
    """Return grids side by side as lines of text."""

    def told(row: Sequence[int]) -> str:
        if not colour:
            return " ".join(map(str, row))
        cells = (";".join(str(int(_COLOURS[cell][i : i + 2], 16)) for i in (0, 2, 4)) for cell in row)
        return "".join(f"\x1b[48;2;{cell}m  \x1b[0m" for cell in cells)

    blanks = [" " * (2 * len(grid[0]) - (not colour)) for grid in grids]
    rows = zip_longest(*([told(row) for row in grid] for grid in grids))
    return [
        "   ".join(blank if part is None else part for part, blank in zip(row, blanks, strict=True)).rstrip()
        for row in rows
    ]


def _parts(puzzle: Puzzle, attempts: Sequence[Attempts]) -> list[tuple[str, list[Grid]]]:
    """Return what of a puzzle is shown, each with a title: pairs, test grids, their attempts and known outputs."""
    parts = [(f"pair {place}: before, after", list(pair)) for place, pair in enumerate(puzzle.train, start=1)]
    for place, grid in enumerate(puzzle.test):
        given = [one for one in (attempts[place] if place < len(attempts) else ()) if one is not None]
        known = list(puzzle.answers[place : place + 1])
        title = f"test {place + 1}" + (", attempts" if given else "") + (", expected" if known else "")
        parts.append((title, [grid, *given, *known]))
    return parts


def lines(puzzle: Puzzle, attempts: Sequence[Attempts] = (), *, colour: bool = True) -> list[str]:
    """Return a puzzle as lines for the terminal: coloured cells, or digits without ``colour``."""
    shown = [f"puzzle {puzzle.id}"]
    for title, grids in _parts(puzzle, attempts):
        shown += [title, *_beside(grids, colour), ""]
    return shown


def drawn(grid: Grid, *, cell: int = 14) -> str:
    """Return a grid as SVG, ``cell`` pixels a cell; it holds nothing but numbers."""
    height, width = len(grid), len(grid[0])
    cells = "".join(
        f'<rect x="{j}" y="{i}" width="1" height="1" fill="#{_COLOURS[value]}"/>'
        for i, row in enumerate(grid)
        for j, value in enumerate(row)
    )
    size = f'width="{cell * width}" height="{cell * height}" viewBox="0 0 {width} {height}"'
    label = f'role="img" aria-label="grid of {height} by {width}"'
    return f'<svg {size} {label}><g stroke="#555" stroke-width=".06">{cells}</g></svg>'


def write_page(puzzles: Sequence[Puzzle], path: str | Path, attempts: Mapping[str, Sequence[Attempts]] = {}) -> Path:
    """Write an HTML page of puzzles, with ``attempts`` by the id of a puzzle, and return its path."""
    body: list[str] = []
    for puzzle in puzzles:
        body.append(f"<h2>{html.escape(puzzle.id)}</h2>")
        for title, grids in _parts(puzzle, attempts.get(puzzle.id, ())):
            body.append(f"<div>{title}<br>{''.join(map(drawn, grids))}</div>")
    target = Path(path)
    target.write_text(_PAGE.format(body="\n".join(body)), encoding="utf-8")
    return target


def drawing(data: Any) -> str:
    """Return the drawing of a recorded puzzle (``meta["puzzle"]`` of a task); empty for what is none."""
    try:
        pairs = [tuple(map(grid_of, pair)) for pair in data["train"]]
        tests = [grid_of(grid) for grid in data["test"]]
    except (TypeError, KeyError, ValueError):
        return ""
    shown = [f"<div>{''.join(map(drawn, pair))}</div>" for pair in pairs]
    return "".join([*shown, f"<div>{''.join(map(drawn, tests))}</div>"])
