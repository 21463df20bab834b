"""A recursive network as a policy: it answers prompts of the world ``grids`` by a vote over variants of the puzzle.

Source: "ARC Prize 2025: Technical Report" (16), its tiny recursive models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ferrule.core.flows import Ask
from ferrule.core.records import Message, Reply, plain_text
from ferrule.data.canvas import Variant, canvas, grid_on, vote
from ferrule.policies.recursive import Recursive, answers_of
from ferrule.worlds.grids import puzzle_of_prompt
from ferrule.worlds.puzzles import Attempts, Grid, Pair, Puzzle, submission

__all__ = ["GridSolver"]


class GridSolver:
    """A policy that solves the puzzles it was trained on (``ferrule.train.recursion.fit_puzzles``), and no others.

    ``known`` maps the demonstrations of a puzzle to its variants and their ids; ``steps`` are those of the network.
    Replies are text without token ids, the same for every sample.
    """

    def __init__(
        self, model: Recursive, side: int, known: Mapping[tuple[Pair, ...], Sequence[tuple[Variant, int]]], *,
        steps: int = 16,
    ) -> None:  # fmt: skip
        self.model, self.side, self.known, self.steps = model, side, dict(known), steps

    def solve(self, puzzle: Puzzle) -> list[Attempts]:
        """Return two answers per test grid: the network's under every variant, undone, and put to the vote.

        A grid that is larger than the canvas has none.
        Raises ``ValueError`` for a puzzle that it was not trained on.
        """
        if puzzle.train not in self.known:
            raise ValueError(f"the network was not trained on the demonstrations of puzzle {puzzle.id!r}; fit it first")
        return [self._voted(grid, self.known[puzzle.train]) for grid in puzzle.test]

    def _voted(self, grid: Grid, variants: Sequence[tuple[Variant, int]]) -> Attempts:
        if max(len(grid), len(grid[0])) > self.side:
            return None, None
        rows = np.array([canvas(variant.apply(grid), self.side) for variant, _ in variants])
        symbols, chances = answers_of(self.model, rows, np.array([number for _, number in variants]), steps=self.steps)
        answers: list[tuple[Grid | None, float]] = []
        for (variant, _), row, chance in zip(variants, symbols, chances, strict=True):
            given = grid_on(row, self.side)
            answers.append((None if given is None else variant.undo(given), float(chance)))
        return vote(answers)

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        """Answer all asks: with two attempts per test grid, or with words where the puzzle is not known."""
        return [[Reply(Message("assistant", self._said(ask)))] * ask.n for ask in asks]

    def _said(self, ask: Ask) -> str:
        puzzle = puzzle_of_prompt(plain_text(ask.messages[-1]))
        if puzzle is None or puzzle.train not in self.known:
            return "This is none of the puzzles that I was trained on."
        return submission(self.solve(puzzle))
