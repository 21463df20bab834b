"""SIT-Graph: which tool comes next, and whether whole runs succeed, in drawn worlds of tools with habits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from ferrule.memory.graph import Run, ToolGraph, learned, ranked
from ferrule.studies.conditions import at_least, less
from ferrule.studies.standins.habits import Habits, names, nearest_run, own_choice, told
from ferrule.studies.study import Study

__all__ = ["STUDY", "arm"]

TOOLS, OWN, FOLLOWS = 12, 0.7, 0.8
"""Tools of a world, how often the agent is right by itself, and how often it follows a suggestion."""
Suggest: TypeAlias = Callable[[ToolGraph, Sequence[Run], Sequence[str], "str | None"], "str | None"]
"""Names the next tool from the graph, the runs it was counted from, the tools so far, and the state where known."""


def _by_graph(graph: ToolGraph, runs: Sequence[Run], called: Sequence[str], state: str | None) -> str | None:
    best = ranked(graph, called[-1], graph.nodes, state=state, normalise=True)
    return best[0][0] if best else None


def _by_weight(graph: ToolGraph, runs: Sequence[Run], called: Sequence[str], state: str | None) -> str | None:
    return _by_graph(graph, runs, called, None)


def _by_run(graph: ToolGraph, runs: Sequence[Run], called: Sequence[str], state: str | None) -> str | None:
    return nearest_run(runs, called)


def _by_told_run(graph: ToolGraph, runs: Sequence[Run], called: Sequence[str], state: str | None) -> str | None:
    return nearest_run(runs, called, state or "")


def _nothing(graph: ToolGraph, runs: Sequence[Run], called: Sequence[str], state: str | None) -> str | None:
    return None


def arm(*, seed: int, runs: int, steps: int, suggest: Suggest) -> dict[str, float]:
    """Learn from ``runs`` runs and suggest in as many others; return next-tool accuracy and success of whole runs.

    Without a suggestion the accuracy is that of a tool drawn evenly. An agent that is right by itself with ``OWN``
    follows a suggestion with ``FOLLOWS``; a run succeeds when every step is right.
    """
    rng = np.random.default_rng(seed)
    habits = Habits.drawn(rng, tools=TOOLS)
    graph, kept = ToolGraph(), list[Run]()
    for _ in range(runs):
        run = names(habits, *habits.walk(rng, steps), rng)
        kept.append(run)
        graph = learned(graph, run)
    options = {f"t{tool}": None for tool in range(TOOLS)}
    hits, solved = list[float](), 0
    for _ in range(runs):
        fact, tools = habits.walk(rng, steps)
        good = True
        for place, (tool, following) in enumerate(pairwise(tools), 1):
            state = told(fact, rng) if habits.branches(tool) else None
            right, name = f"t{following}", suggest(graph, kept, [f"t{each}" for each in tools[:place]], state)
            hits.append(1 / (TOOLS - 1) if name is None else float(name == right))
            by_itself = own_choice(right, options, OWN, rng)
            good &= (name if name is not None and rng.random() < FOLLOWS else by_itself) == right
        solved += good
    return {"accuracy": float(np.mean(hits)), "success": solved / runs}


STUDY = Study(
    paper="sit-graph",
    statement="Next tools are suggested best when edges carry state summaries, read only where the state decides.",
    falsifier="Summaries and weights together are not 0.05 above weights alone and above the nearest whole run.",
    grade="B",
    trained="nothing: a graph of tools counted from runs of a drawn world",
    arms={
        "no memory": partial(arm, suggest=_nothing),
        "weights": partial(arm, suggest=_by_weight),
        "nearest run": partial(arm, suggest=_by_run),
        # Whole runs that carry summaries as well: here a fact holds for a whole run, so that all of them tell of it.
        "nearest run, with summaries": partial(arm, suggest=_by_told_run),
        "summaries and weights": partial(arm, suggest=_by_graph),
    },
    asks=(
        at_least("accuracy, summaries minus weights", less("accuracy", "summaries and weights", "weights"), 0.05),
        at_least("accuracy, summaries minus nearest", less("accuracy", "summaries and weights", "nearest run"), 0.05),
        at_least("success of runs, summaries minus none", less("success", "summaries and weights", "no memory"), 0.05),
    ),
    sizes={"small": {"runs": 60, "steps": 8}, "tiny": {"runs": 10, "steps": 6}},
    setup={"tools": TOOLS, "own accuracy": OWN, "follows": FOLLOWS},
)
