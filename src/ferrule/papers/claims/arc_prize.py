"""ARC Prize: refinement of programs by demonstrations against independent draws, at equal numbers of verifications."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from ferrule.agents.demonstrations import by_demonstrations
from ferrule.agents.refine import Candidate, Refined, Select, best, from_nothing, ranked, refine, settled
from ferrule.core.records import Task
from ferrule.rewards.grids import totals, two_attempts
from ferrule.studies.conditions import at_least, less, minus, of, within
from ferrule.studies.standins.grid_writers import run, writer
from ferrule.studies.study import Study
from ferrule.worlds.grids import Grids, puzzle_in
from ferrule.worlds.puzzles import submission, two_of

__all__ = ["STUDY", "arm", "at_random"]

LEVELS = (1, 2, 3)
"""Steps of the hidden programs."""
SAMPLES, PARENTS = 5, 5


def at_random(candidates: Sequence[Candidate]) -> Sequence[Sequence[Candidate]]:
    """Select parents at random: the control, which changes programs and does not look at their checks."""
    rng = random.Random(len(candidates))
    return [rng.sample(list(candidates), min(PARENTS, len(candidates)))]


def _solve(task: Task, budget: int, select: Select, library: Sequence[str], seed: int) -> Refined:
    """Refine programs for one puzzle; programs of the library are verified first and count."""
    check = by_demonstrations(puzzle_in(task).train, run)
    start = settled(refine(lambda parents: library, check, rounds=1)).candidates if library else ()
    propose = writer(random.Random(f"{seed}/{task.id}"), samples=SAMPLES)
    return settled(
        refine(propose, check, select=select, rounds=100 * budget, checks=budget - len(start), start=start)
    )  # fmt: skip


def arm(*, seed: int, tasks: int, budget: int, shelf: int, select: Select, learns: bool = False) -> dict[str, float]:
    """Solve puzzles one after the other with ``budget`` verifications each; return shares by number of steps.

    With ``learns`` the programs that explained all pairs of a puzzle join a library, of which the last ``shelf`` count.
    """
    library: list[str] = []
    todo = Grids().tasks("train", tasks, seed=seed, levels=LEVELS)
    right: list[bool] = []
    fits: list[bool] = []
    spent = 0
    for task in todo:
        refined = _solve(task, budget, select, library[-shelf:], seed)
        spent += len(refined.candidates)
        order = [run(candidate.text, puzzle_in(task).test) for candidate in ranked(refined)]
        answer = submission([two_of(grids) for grids in zip(*order, strict=True)])
        right.append(two_attempts(answer, task.answer) == 1.0)
        fits.append(refined.best.checked.solved)
        if learns and fits[-1] and refined.best.text not in library:
            library.append(refined.best.text)
    numbers = {f"solved {level}": _share(right, todo, level) for level in LEVELS}
    late = right[len(right) // 2 :]
    return {
        **numbers,
        "solved": totals([[one] for one in right]).by_task,
        "solved later": sum(late) / len(late),
        "fits all pairs": sum(fits) / len(fits),
        "verifications": spent / len(todo),
    }


def _share(right: Sequence[bool], tasks: Sequence[Task], level: int) -> float:
    chosen = [one for one, task in zip(right, tasks, strict=True) if task.meta["level"] == level]
    return sum(chosen) / max(len(chosen), 1)


ALONE, LOOP, BLIND, LIBRARY = "independent", "refinement", "changes at random", "refinement and library"
STUDY = Study(
    paper="arc-prize",
    statement="At equal verifications refinement solves more puzzles of three steps than independent draws.",
    falsifier="Independent draws solve as many puzzles of three steps, or changes at random do as well as refinement.",
    grade="C",
    trained="nothing: a random writer of programs in a small language; the seed draws the puzzles",
    arms={
        ALONE: partial(arm, select=from_nothing),
        LOOP: partial(arm, select=best(PARENTS, pooled=True)),
        BLIND: partial(arm, select=at_random),
        LIBRARY: partial(arm, select=best(PARENTS, pooled=True), learns=True),
    },
    asks=(
        at_least(
            "solved with 3 steps, refinement minus 1.5 times independent",
            minus(of(LOOP, "solved 3"), of(ALONE, "solved 3", factor=1.5)),
            0.0,
        ),
        at_least("solved with 3 steps, refinement minus changes at random", less("solved 3", LOOP, BLIND), 0.0),
        at_least(
            "solved with 2 steps, refinement minus independent", less("solved 2", LOOP, ALONE), 0.0, decides=False
        ),
        within("solved with 1 step, refinement minus independent", less("solved 1", LOOP, ALONE), 0.05, decides=False),
        at_least(
            "solved in the later half, with minus without library",
            less("solved later", LIBRARY, LOOP),
            0.0,
            decides=False,
        ),
    ),
    sizes={"small": {"tasks": 240, "budget": 150, "shelf": 30}, "tiny": {"tasks": 24, "budget": 30, "shelf": 6}},
    setup={"samples": SAMPLES, "parents": PARENTS, "levels": LEVELS},
)
