"""Writers of programs on grids that draw at random: from nothing, or by small changes of given programs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from ferrule.agents.refine import Candidate, Propose
from ferrule.worlds.grid_programs import STEPS, carry_out
from ferrule.worlds.puzzles import Grid

__all__ = ["LONGEST", "changed", "drawn", "run", "writer"]

LONGEST = 3
"""The most steps of a program that is written."""


def run(text: str, grids: Sequence[Grid]) -> list[Grid | None]:
    """Return what a program makes of grids; its text is the names of its steps."""
    program = tuple(text.split())
    return [carry_out(program, grid) for grid in grids]


def drawn(rng: random.Random) -> str:
    """Return a random program: its number of steps, 1 to ``LONGEST``, is as likely as any other."""
    return " ".join(rng.choices(tuple(STEPS), k=rng.randint(1, LONGEST)))


def changed(rng: random.Random, parents: Sequence[str]) -> str:
    """Return a program made from one of ``parents``: a step replaced, put in or left out, or the end of another."""
    steps, other = rng.choice(parents).split(), rng.choice(parents).split()
    place, step = rng.randrange(len(steps)), rng.choice(tuple(STEPS))
    ways: list[Callable[[], list[str]]] = [
        lambda: [*steps[:place], step, *steps[place + 1 :]],
        lambda: [*steps[:place], step, *steps[place:]],
        lambda: [*steps, step],
        lambda: [*steps[:place], *steps[place + 1 :]],
        lambda: [*steps[: place + 1], *other[rng.randrange(len(other)) :]],
    ]
    made = rng.choice(ways)()
    return " ".join(made[:LONGEST]) if made else step


def writer(rng: random.Random, *, samples: int, fresh: float = 0.2) -> Propose:
    """Return what writes ``samples`` programs: by changes of the parents, but with the chance ``fresh`` from nothing.

    Without parents all are written from nothing.
    """

    def propose(parents: Sequence[Candidate]) -> list[str]:
        texts = [parent.text for parent in parents]
        return [changed(rng, texts) if texts and rng.random() >= fresh else drawn(rng) for _ in range(samples)]

    return propose
