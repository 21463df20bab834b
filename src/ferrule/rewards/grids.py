"""Scores of puzzles on grids: a test grid is right when one of two attempts equals it in shape and in every cell.

Source: "ARC Prize 2025: Technical Report" (16).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ferrule.worlds.puzzles import Attempts, Grid, attempts_of, grid_of

__all__ = ["Totals", "right", "totals", "two_attempts"]


def right(attempts: Sequence[Attempts], outputs: Sequence[Grid]) -> list[bool]:
    """Say of every test grid whether either attempt equals it; grids without attempts are wrong."""
    given = [*attempts, *[(None, None)] * len(outputs)]
    return [output in given[place] for place, output in enumerate(outputs)]


def two_attempts(answer: str, gold: object) -> float:
    """Return the share of test grids that an answer has right; ``gold`` is JSON text of the list of outputs.

    The verifier ``grids``. Answers are read by ``ferrule.worlds.puzzles.attempts_of``. Raises ``ValueError`` for a gold
    that is no list of grids.
    """
    try:
        outputs = [grid_of(grid) for grid in json.loads(str(gold))]
    except (TypeError, ValueError) as error:
        raise ValueError(f"verifier 'grids' needs JSON text of a list of grids as gold: {error}") from None
    results = right(attempts_of(answer), outputs)
    return sum(results) / len(results)


@dataclass(frozen=True)
class Totals:
    """Scores over puzzles: the mean share ``by_task`` (the official scorer), the share ``by_output`` (the competition),
    and how many were ``solved`` in full.
    """

    by_task: float
    by_output: float
    solved: int


def totals(results: Sequence[Sequence[bool]]) -> Totals:
    """Return the scores of what ``right`` says of every puzzle; all 0 without puzzles.

    The two averages differ where puzzles have several test grids, so a quoted figure needs its kind.
    """
    outputs = [one for puzzle in results for one in puzzle]
    return Totals(
        sum(sum(puzzle) / len(puzzle) for puzzle in results) / max(len(results), 1),
        sum(outputs) / max(len(outputs), 1),
        sum(map(all, results)),
    )
