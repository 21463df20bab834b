"""AlphaOPT: how often a scripted modeller is right, by the number of tasks that its library was learned from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from statistics import fmean

from ferrule.agents.refine import settled
from ferrule.core.records import Task
from ferrule.memory.entries import Change, Entry
from ferrule.memory.insights import Evolution, Solved, evolve, learn_from
from ferrule.memory.library import Library
from ferrule.papers.alphaopt import merged
from ferrule.studies.conditions import Rows, at_least, less, of
from ferrule.studies.standins.pitfalls import Modeller, Pitfalls, applies_to, retrieved
from ferrule.studies.study import Study

__all__ = ["STUDY", "arm"]


def _learned(library: Library, tasks: Sequence[Task], by: Modeller, verified: bool) -> None:
    """Learn from each task once; insights that say the same are merged where all their tasks are solved with that."""

    def proved(task: Task, entries: Sequence[Entry]) -> Solved:
        return by.solve(task, entries) if verified else Solved(True)

    def solve(task: Task, entries: Sequence[Entry]) -> Solved:
        return (proved if any(entry.number < 0 for entry in entries) else by.solve)(task, entries)

    known = {task.id: task for task in tasks}
    for task in tasks:
        added = settled(learn_from(library, task, solve, by.extract, retrieved))
        for text in dict.fromkeys(entry.text for entry in added):
            ids = tuple(entry.id for entry in library.entries() if entry.text == text)
            if len(ids) > 1:
                settled(merged(library, [Change("merge", ids, text)], known, proved))


def _evolution(library: Library, by: Modeller) -> Evolution:
    say, missing = by.features, partial(_missing, library, by)
    return Evolution(by.solve, retrieved, by.label, missing, say, say, by.vary, partial(_retrieves, by))


def _missing(library: Library, by: Modeller, task: Task, failure: Solved, shown: Sequence[Entry]) -> list[list[Entry]]:
    known = {entry.id for entry in shown}
    return by.missing([entry for entry in library.entries() if entry.id not in known], task, failure)


def _retrieves(by: Modeller, entry: Entry, task: str) -> bool:
    return applies_to(entry, by.prompts[task])


def arm(*, seed: int, items: Sequence[int], test: int, passes: int = 4, verified: bool = True) -> dict[str, float]:
    """Return the share of ``test`` tasks that are solved with a library of each number of items, and its size."""
    world, numbers = Pitfalls(seed), dict[str, float]()
    learning, measuring = world.tasks("train", max(items)), world.tasks("test", test)
    for count in items:
        by = Modeller(random.Random(f"{seed}/{count}"), {task.id: task.prompt for task in learning})
        library = Library()
        _learned(library, learning[:count], by, verified)
        settled(evolve(library, learning[:count], _evolution(library, by), passes=passes))
        entries = library.entries()
        solved = [by.solve(task, retrieved(task, entries)).right for task in measuring]
        numbers |= {f"success {count}": fmean(solved), f"entries {count}": float(len(entries))}
        library.close()
    last, middle = items[-1], items[-2]
    numbers |= {"success": numbers[f"success {middle}"], "entries": numbers[f"entries {middle}"]}
    return {**numbers, "growth": numbers[f"success {last}"] - numbers[f"success {items[1]}"]}


def _verified(rows: Rows) -> float:
    """By how much the library is larger without verification, as a share."""
    return float(rows["no verification"]["entries"]) / max(float(rows["full"]["entries"]), 1.0) - 1.0


STUDY = Study(
    paper="alphaopt",
    statement="Conditions that are rewritten by where insights helped make a library worth more the more it learned.",
    falsifier="Rewriting adds less than 0.15 at 200 items, or success falls by more than 0.03 from 100 items to 300.",
    grade="C",
    trained="nothing: a library of insights by a scripted modeller on drawn tasks",
    arms={
        "full": arm,
        "no refinement": partial(arm, passes=0),
        "no verification": partial(arm, verified=False),
    },
    asks=(
        at_least("success at 200 items, full minus no refinement", less("success", "full", "no refinement"), 0.15),
        at_least("success at 300 items minus that at 100", of("full", "growth"), -0.03),
        at_least("success, full minus no verification", less("success", "full", "no verification"), 0.0, decides=False),
        at_least("share of entries that verification saves", _verified, 0.0, decides=False),
    ),
    sizes={"small": {"items": (0, 100, 200, 300), "test": 300}, "tiny": {"items": (0, 10, 20, 30), "test": 40}},
    setup={"features": 40, "shown": 8, "pitfalls": 25, "passes": 4},
)
