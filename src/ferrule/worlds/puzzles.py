"""Puzzles on grids in the format of ARC: reading and checking them, comparing grids, and answers of two attempts.

Source: "ARC Prize 2025: Technical Report" (16). A grid is a list of rows of whole numbers 0 to 9 (colours; 0 is the
background) with sides of 1 to 30.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ferrule.worlds.lines import decoded

__all__ = [
    "COLOURS", "LARGEST", "Attempts", "Grid", "Pair", "Puzzle", "attempts_of", "compact", "differences", "grid_of",
    "puzzle_of", "read_puzzles", "similarity", "submission", "two_of",
]  # fmt: skip

Grid: TypeAlias = tuple[tuple[int, ...], ...]
Pair: TypeAlias = tuple[Grid, Grid]
Attempts: TypeAlias = tuple[Grid | None, Grid | None]
"""Two answers for one test grid; None where there is none."""
COLOURS, LARGEST = 10, 30
_SUBMISSION, _ALONE, _TRIED = re.compile(r'\[\s*\{\s*"attempt_'), re.compile(r"\[\s*\[\s*\d"), 10


@dataclass(frozen=True)
class Puzzle:
    """One puzzle: ``train`` are pairs of input and output, ``test`` the inputs to solve, ``answers`` their outputs.

    ``answers`` are empty where they are not known.
    """

    id: str
    train: tuple[Pair, ...]
    test: tuple[Grid, ...]
    answers: tuple[Grid, ...] = ()


def grid_of(value: Any) -> Grid:
    """Return a grid from lists of lists. Raises ``ValueError`` saying what is wrong with it."""
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(row, (list, tuple)) for row in value):
        raise ValueError("a grid is a list of rows, at least one")
    widths = {len(row) for row in value}
    if len(widths) > 1:
        raise ValueError(f"rows of a grid are equally long; these have {', '.join(map(str, sorted(widths)))} cells")
    if not 1 <= len(value) <= LARGEST or not 1 <= len(value[0]) <= LARGEST:
        raise ValueError(f"sides of a grid are 1 to {LARGEST}; this one is {len(value)} by {len(value[0])}")
    for row in value:
        for cell in row:
            if type(cell) is not int or not 0 <= cell < COLOURS:
                raise ValueError(f"cells are whole numbers 0 to {COLOURS - 1}, not {cell!r}")
    return tuple(tuple(row) for row in value)


def puzzle_of(name: str, data: Any) -> Puzzle:
    """Return a puzzle from ``{"train": [{"input", "output"}, ...], "test": [{"input", "output" or none}, ...]}``."""
    try:
        train = tuple((grid_of(pair["input"]), grid_of(pair["output"])) for pair in data["train"])
        test = tuple(grid_of(pair["input"]) for pair in data["test"])
        answers = tuple(grid_of(pair["output"]) for pair in data["test"] if "output" in pair)
    except (KeyError, TypeError) as error:
        raise ValueError(f"puzzle {name!r} lacks {error}; it has train and test, lists of input and output") from None
    except ValueError as error:
        raise ValueError(f"puzzle {name!r}: {error}") from None
    if not train or not test or len(answers) not in (0, len(test)):
        raise ValueError(f"puzzle {name!r} needs pairs to train and to test, with all test outputs or with none")
    return Puzzle(name, train, test, answers)


def read_puzzles(path: str | Path) -> list[Puzzle]:
    """Read puzzles: a JSON file of one or of many by id, or a folder with such files (one puzzle is named by its file).

    Raises ``FileNotFoundError``, and ``ValueError`` naming the file and the puzzle that is not in the format.
    """
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"no file or folder of puzzles at {str(path)!r}")
    puzzles: list[Puzzle] = []
    for file in sorted(place.glob("*.json")) if place.is_dir() else [place]:
        try:
            data = json.loads(decoded(file.read_bytes(), str(file)))
            if not isinstance(data, Mapping):
                raise ValueError("a file of puzzles is a JSON object")
            named = {file.stem: data} if "train" in data else data
            puzzles += [puzzle_of(str(name), one) for name, one in named.items()]
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
    if not puzzles:
        raise ValueError(f"{str(path)!r} holds no puzzles; a folder of them has files that end in .json")
    return puzzles


def similarity(got: Grid | None, expected: Grid) -> float:
    """Share of equal cells; 0 where the shapes differ or there is no grid."""
    if not got or len(got) != len(expected) or len(got[0]) != len(expected[0]):
        return 0.0
    cells = [a == b for mine, theirs in zip(got, expected, strict=True) for a, b in zip(mine, theirs, strict=True)]
    return sum(cells) / len(cells)


def differences(got: Grid | None, expected: Grid) -> str:
    """Return the cells side by side as text: ``.`` where they are equal, else ``got->expected``."""
    if not got:
        return "no grid"
    shapes = [f"{len(grid)} by {len(grid[0])}" for grid in (got, expected)]
    if shapes[0] != shapes[1]:
        return f"the grid is {shapes[0]}; expected {shapes[1]}"
    return "\n".join(
        " ".join("." if a == b else f"{a}->{b}" for a, b in zip(mine, theirs, strict=True))
        for mine, theirs in zip(got, expected, strict=True)
    )


def compact(value: Any) -> str:
    """Return JSON without spaces, as grids stand in prompts and answers."""
    return json.dumps(value, separators=(",", ":"))


def two_of(grids: Iterable[Grid | None]) -> Attempts:
    """Return the first of several grids and the first that differs from it, or a copy of it where none does."""
    given = [grid for grid in grids if grid is not None]
    first = given[0] if given else None
    return first, next((grid for grid in given if grid != first), first)


def submission(attempts: Sequence[Attempts]) -> str:
    """Return the text of an answer: per test grid ``{"attempt_1": grid, "attempt_2": grid}``."""
    return compact([{"attempt_1": first, "attempt_2": second} for first, second in attempts])


def attempts_of(text: str) -> list[Attempts]:
    """Read an answer: what ``submission`` writes (the last such list counts), or the last grid, for one test grid.

    What is no grid is None; a text without either gives no attempts. Never raises.
    """
    for value in _decoded(_SUBMISSION, text):
        if all(isinstance(one, Mapping) for one in value):
            return [(_grid(one.get("attempt_1")), _grid(one.get("attempt_2"))) for one in value]
    grids = (_grid(value) for value in _decoded(_ALONE, text))
    return next(([(grid, None)] for grid in grids if grid is not None), [])


def _decoded(pattern: re.Pattern[str], text: str) -> Iterator[list[Any]]:
    """Yield the lists that begin where a pattern matches, the last ones first; no more than ten places are tried."""
    for match in [*pattern.finditer(text)][: -_TRIED - 1 : -1]:
        with suppress(ValueError, RecursionError):
            yield json.JSONDecoder().raw_decode(text, match.start())[0]


def _grid(value: Any) -> Grid | None:
    try:
        return grid_of(value)
    except ValueError:
        return None
