"""ToolLLM: searches of a graph of tools by a script that errs, at equal numbers of drawn steps."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ferrule.agents.frontier import BestFirst
from ferrule.agents.search import Budget, Node
from ferrule.core.flows import Agent
from ferrule.core.records import Task
from ferrule.core.tally import turns_of
from ferrule.papers.toolllm import by_judge, chain, finishing, gave_up, searching
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.studies.conditions import Rows, at_least, less, of
from ferrule.studies.standins.tool_graph import ToolGraph, held, judge, speaker
from ferrule.studies.study import Study

__all__ = ["STUDY", "arm", "sure"]

BUDGETS = (10, 20, 40)
"""Steps that may be drawn for a task; the judge's replies are not counted."""
DEPTH, RIGHT = 8, 0.8
ERRORS = (0.2, 0.3, 0.4)
"""Chances of the script to err at an item, a third of the tasks each."""
Make: TypeAlias = Callable[[ToolGraph], Agent]


def _chain(world: ToolGraph) -> Agent:
    return chain(BUDGETS[-1], depth=DEPTH, asks=BUDGETS[-1])


def _searching(world: ToolGraph, **more: Any) -> Agent:
    return searching(depth=DEPTH, asks=BUDGETS[-1], **more)


def _filtered(world: ToolGraph) -> Agent:
    return searching(depth=DEPTH, asks=BUDGETS[-1] // 2, order=by_judge())  # two steps are drawn by each ask


def _best_first(world: ToolGraph) -> Agent:
    def value(task: Task, node: Node) -> float:
        """Whether what is held is on the way, told rightly in 8 of 10 cases, and further steps before others."""
        item = held(node.messages)
        rng = random.Random(f"{task.id}/{item}")
        return float((item in world.graph(task).way) == (rng.random() < RIGHT)) + 0.1 * node.depth

    return BestFirst(branch=2, depth=DEPTH, value=value, budget=Budget(asks=BUDGETS[-1] // 2), stuck=gave_up)


def _drawn(episode: Episode) -> int:
    return len(turns_of(episode.of_role("solver")))


def _measured(world: ToolGraph, agent: Agent, *, seed: int, tasks: int, errors: Sequence[float]) -> dict[str, float]:
    """Play all tasks with the largest budget; a smaller one would have ended the same search earlier."""
    todo = world.tasks("test", tasks, seed=seed)
    graphs = {task.prompt: world.graph(task) for task in todo}
    episodes: list[Episode] = []
    for place, error in enumerate(errors):
        roles = {"solver": speaker(graphs, error=error), "judge": judge(graphs, right=RIGHT)}
        part = todo[place :: len(errors)]
        episodes += drive(agent, part, finishing(world), roles, seed=seed)
    if problem := next((episode.problem for episode in episodes if episode.problem), ""):
        raise RuntimeError(f"a search failed: {problem}")
    solved = np.array([episode.trajectories[0].answer == episode.task.answer for episode in episodes])
    drawn = np.array([_drawn(episode) for episode in episodes])
    numbers: dict[str, float] = {}
    for budget in BUDGETS:
        passed = solved & (drawn <= budget)
        numbers[f"pass {budget}"] = float(passed.mean())
        numbers[f"queries per success {budget}"] = float(np.minimum(drawn, budget).sum() / max(passed.sum(), 1))
    return numbers


def arm(*, seed: int, tasks: int, make: Make, late: int = 0) -> dict[str, float]:
    """Search the tasks of a seed; wrong turns end at once, or ``late`` steps later."""
    world = ToolGraph(late=late)
    return _measured(world, make(world), seed=seed, tasks=tasks, errors=ERRORS)


def sure(*, seed: int, tasks: int) -> dict[str, float]:
    """Compare a script that never errs: what depth-first search gains over chains there."""
    world = ToolGraph()
    one, other = (_measured(world, make(world), seed=seed, tasks=tasks, errors=(0.0,)) for make in (_searching, _chain))
    return {f"gain {budget}": one[f"pass {budget}"] - other[f"pass {budget}"] for budget in BUDGETS}


def _largest_gain(rows: Rows) -> float:
    return max(less(f"pass {budget}", "dfsdt, early", "chains, early")(rows) for budget in BUDGETS)


STUDY = Study(
    paper="toolllm",
    statement="At equal numbers of steps depth-first search solves more than repeated chains where errors show early.",
    falsifier="Chains are within 2 points of depth-first search at every budget.",
    grade="C",
    trained="nothing: a script that errs on a generated graph of tools; the seed draws the tasks",
    arms={
        "chains, early": partial(arm, make=_chain),
        "dfsdt, early": partial(arm, make=_searching),
        "dfsdt begun anew, early": partial(arm, make=partial(_searching, restarts=BUDGETS[-1])),
        "filtered, early": partial(arm, make=_filtered),
        "best-first, early": partial(arm, make=_best_first),
        "chains, late": partial(arm, make=_chain, late=2),
        "dfsdt, late": partial(arm, make=_searching, late=2),
        "no errors": sure,
    },
    asks=(
        at_least("pass rate with 20 steps, dfsdt minus chains", less("pass 20", "dfsdt, early", "chains, early"), 0.1),
        at_least("pass rate with 40 steps, dfsdt minus chains", less("pass 40", "dfsdt, early", "chains, early"), 0.1),
        at_least("largest lead of dfsdt at any budget", _largest_gain, 0.02),
        at_least(
            "pass rate with 20 steps, dfsdt minus chains, errors that show late",
            less("pass 20", "dfsdt, late", "chains, late"),
            0.0,
            decides=False,
        ),
        at_least(
            "pass rate with 20 steps, dfsdt begun anew minus chains",
            less("pass 20", "dfsdt begun anew, early", "chains, early"),
            0.1,
            decides=False,
        ),
        at_least(
            "pass rate with 20 steps, chains minus dfsdt, no errors",
            of("no errors", "gain 20", factor=-1.0),
            -0.02,
            decides=False,
        ),
    ),
    sizes={"small": {"tasks": 510}, "tiny": {"tasks": 24}},
    setup={"errors": list(ERRORS), "width": 2, "depth": DEPTH, "the judge is right in": RIGHT},
)
