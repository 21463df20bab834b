"""DRAFT on the pocket model: which tool it takes by documents that were written from trials, and by others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import fmean

from ferrule.agents.react import ToolLoop
from ferrule.core.records import Task
from ferrule.evaluate.evaluate import evaluate
from ferrule.papers.draft import mastered
from ferrule.policies.named import load
from ferrule.policies.scripted import Scripted
from ferrule.studies.conditions import at_least, less
from ferrule.studies.standins.undocumented import BLANK, hidden, peoples, scripted_writer, swapped
from ferrule.studies.study import Study
from ferrule.tools.overlay import Overlay
from ferrule.worlds.aliased import documented

__all__ = ["STUDY", "solved"]

LEVELS = (1, 2)
LOOP = ToolLoop(turns=3, max_tokens=64)


def _first(task: Task, seed: int) -> Overlay:
    return Overlay()


def _written(task: Task, seed: int) -> Overlay:
    writer = Scripted(scripted_writer)
    return mastered(hidden(seed), writer, task=task, rounds=2, examples=False, seed=seed).overlay


def _swapped(task: Task, seed: int) -> Overlay:
    return swapped(_written(task, seed))


def solved(*, seed: int, tasks: int, documents: Callable[[Task, int], Overlay]) -> dict[str, float]:
    """Return the share of test tasks that the model solves by the documents of their tools, and calls per task."""
    world, policy = hidden(seed), load("pocket")
    scores, calls, words = [], [], []
    for task in world.tasks("test", tasks, seed=seed, levels=LEVELS):
        overlay = documents(task, seed)
        (row,) = evaluate(LOOP, policy, documented(world, overlay), [task], seed=seed).rows
        scores.append(row.score)
        calls.append(row.calls)
        words.append(sum(len((text.description or BLANK).split()) for text in overlay.texts.values()))
    return {"success": fmean(scores), "calls": fmean(calls), "words": fmean(words)}


STUDY = Study(
    paper="draft",
    part="pocket",
    statement="A model that reads documents written from trials takes the right tools, which it cannot without.",
    falsifier="It solves less than 0.3 more than by documents that say nothing, or than by those of other tools.",
    grade="B",
    trained="nothing: the shipped model reads documents that a script writes from the errors of trials",
    models=("pocket",),
    arms={
        "first documents": partial(solved, documents=_first),
        "written": partial(solved, documents=_written),
        "written, of another tool": partial(solved, documents=_swapped),
        "people's": partial(solved, documents=peoples),
    },
    asks=(
        at_least("solved, written minus first documents", less("success", "written", "first documents"), 0.3),
        at_least("solved, written minus another tool's", less("success", "written", "written, of another tool"), 0.3),
        at_least("solved, written minus people's", less("success", "written", "people's"), -0.05, decides=False),
    ),
    sizes={"small": {"tasks": 60}, "tiny": {"tasks": 6}},
    seeds=tuple(range(100, 105)),
    setup={"levels": LEVELS, "world": "apis, with made-up names", "who explores and writes": "a script"},
)
