"""TP-LLaMA on the pocket model: what failed steps add to the ways to success, on tasks with tools it never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any

from ferrule.agents.depth_first import DepthFirst
from ferrule.agents.react import ToolLoop
from ferrule.agents.search import Budget, Node, no_answer
from ferrule.core.recipe import Method
from ferrule.data.trees import solutions, step_preferences
from ferrule.papers.tp_llama import method
from ferrule.studies.conditions import Rows, at_least, less
from ferrule.studies.learner import taught
from ferrule.studies.study import Study
from ferrule.studies.table import plain
from ferrule.studies.tuning import Tuning
from ferrule.train.stage import dpo, searched, sft
from ferrule.worlds.apis import Apis

__all__ = ["STUDY", "arm", "failed"]

LEVELS, TOKENS, LONGEST, BATCH, FIRST = (2, 3, 4), 400, 64, 8, 3e-4
"""Levels of the tasks, tokens per task in a search and per reply, rows per step, and the rate of the first stage."""
ROUNDS, BETA = 4, 0.5
"""Rounds of arms E and F after the first stage, and DPO's beta in them."""
LOOP, UNLIMITED = ToolLoop(turns=6, max_tokens=LONGEST), 1_000_000_000


def failed(node: Node) -> bool:
    """Give up after a call that failed, and without an answer: the model is not trained to say so itself."""
    return no_answer(node) or any(observation.status != "ok" for observation in node.observations)


SEARCH = DepthFirst(depth=6, budget=Budget(tokens=TOKENS), stuck=failed, max_tokens=LONGEST)
COLLECT = replace(SEARCH, width=3, answers=4, back=1)
"""Collects several answers of a task, so that right and wrong ones stand in one tree."""
Second = Callable[[int, int, int, float], Method]
"""Makes a method of a seed, tasks searched before each stage, updates of each, and the rate of the second."""


def _preferring(seed: int, drawn: int, steps: int, rate: float, **more: Any) -> Method:
    return method(
        plain(agent=LOOP), Apis(), tasks=drawn, levels=LEVELS, seed=seed, imitate=steps, prefer=steps, agent=COLLECT,
        rate=rate, **more,
    )  # fmt: skip


def _imitating_then(
    seed: int, drawn: int, steps: int, rate: float, *, rounds: int, learn: Any = solutions, stage: Any = sft
) -> Method:
    """Learn from ways to success, then by ``stage`` in ``rounds`` that divide updates and tasks among them.

    Every round searches further tasks by the policy as the one before left it.
    """
    source = partial(searched, COLLECT, Apis(), levels=LEVELS)
    first = sft(source(solutions, tasks=drawn, seed=seed), max_steps=steps)
    more = (
        stage(
            source(learn, tasks=ceil(drawn / rounds), seed=seed + 1 + 1_000 * lap),
            max_steps=ceil(steps / rounds),
            learning_rate=rate,
        )
        for lap in range(rounds)
    )
    return Method((first, *more))


def arm(*, seed: int, tasks: int, drawn: int, steps: int, rate: float, second: Second) -> dict[str, float]:
    """Train one arm and judge it by a plain loop and by a search within the same tokens."""
    numbers = taught(
        seed=seed, sampled=UNLIMITED, tasks=tasks, batch=BATCH, learning_rate=FIRST,
        method=second(seed, drawn, steps, rate), agent=LOOP, world=Apis(), levels=LEVELS, also={"search": SEARCH},
    )  # fmt: skip
    solved = numbers["success, search"]
    return {**numbers, "turns per success, search": numbers["turns, search"] / max(solved, 1 / tasks)}


def _saved(rows: Rows) -> float:
    """Return the share of drawn steps per success that B saves over A."""
    return 1.0 - float(rows["B"]["turns per success, search"]) / float(rows["A"]["turns per success, search"])


STUDY = Study(
    paper="tp-llama",
    part="pocket",
    statement="Failed steps as preferences solve more with fewer steps than imitating ways to success alone.",
    falsifier="As many further updates of imitation do as well (D matches B), or steps per success do not fall.",
    grade="A",
    trained="the pocket model on trees of its own searches; judged on tasks whose tools it never saw",
    models=("pocket",),
    arms={
        "A": partial(arm, second=partial(_imitating_then, rounds=0)),
        "B": partial(arm, second=_preferring),
        "C": partial(arm, second=partial(_preferring, paths=True)),
        "D": partial(arm, second=partial(_imitating_then, rounds=1)),
        "E": partial(
            arm, second=partial(_imitating_then, rounds=ROUNDS, learn=step_preferences, stage=partial(dpo, beta=BETA))
        ),
        "F": partial(arm, second=partial(_imitating_then, rounds=ROUNDS)),
    },
    asks=(
        at_least("success, steps as preferences minus more imitation", less("success", "B", "D"), 0.03),
        at_least("share of drawn steps per success saved", _saved, 0.1),
        at_least("success, steps as preferences minus imitation", less("success", "B", "A"), 0.03, decides=False),
        at_least("success, steps minus whole ways as preferences", less("success", "B", "C"), 0.0, decides=False),
        at_least(
            "success of searches, steps as preferences minus more imitation",
            less("success, search", "B", "D"),
            0.03,
            decides=False,
        ),
        at_least(
            "success, steps as preferences in rounds minus imitation in rounds",
            less("success", "E", "F"),
            0.0,
            decides=False,
        ),
        at_least(
            "success, steps as preferences in rounds minus at once", less("success", "E", "B"), 0.0, decides=False
        ),
    ),
    sizes={
        "small": {"tasks": 120, "drawn": 128, "steps": 40},
        "tiny": {"tasks": 4, "drawn": 12, "steps": 1, "rate": 1e-4},
    },
    seeds=(100, 101, 102, 103, 104),
    tuning=Tuning("rate", (3e-5, 1e-4, 3e-4), {"drawn": 64, "steps": 20}),
    setup={
        "levels": list(LEVELS),
        "tokens per task": TOKENS,
        "rate of the first stage": FIRST,
        "rows per step": BATCH,
        "rounds": ROUNDS,
    },
    notes=lambda seeds: (
        "A: imitation; B: then pairs of steps; C: then pairs of whole ways; D: then as many updates of imitation. "
        f"E and F: as B and D, in {ROUNDS} rounds with the same tasks and updates in all; each round searches by the "
        "policy that the one before left, which is also what DPO compares with.",
    ),
)
