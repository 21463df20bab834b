"""OTC on a language model: word problems that need a calculator or not, and the calls in held-out ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ferrule.agents.react import ToolLoop
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Score, Task, Trajectory
from ferrule.papers import otc
from ferrule.rewards.efficiency import call_cost
from ferrule.rewards.outcome import outcome
from ferrule.studies.conditions import at_least, less, minus, over
from ferrule.studies.learner import learner, taught
from ferrule.studies.study import Study
from ferrule.studies.table import plain
from ferrule.studies.tuning import Tuning
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.experts import transcript

__all__ = ["STUDY", "arm", "flat_price", "started"]

LEVELS, PRICE, LESSON_RATE, DIRECT = (1, 4), 0.1, 5e-4, 3
"""Sums of one digit, which the model can do in its head, and products of three, which it cannot; the price of a call of
the simplest control; the rate of the lessons, of which one in so many goes without a call."""
WORLD, AGENT = Arithmetic(form="words", tools=("calculator",)), ToolLoop(turns=4, max_tokens=64)


def flat_price(task: Task, trajectories: Sequence[Trajectory], *, price: float = PRICE) -> list[Score]:
    """Take the same price off for every call, whether the answer is right or not: the simplest control."""
    return [
        replace(score, value=score.value - price * call_cost(trajectory))
        for trajectory, score in zip(trajectories, outcome(task, trajectories), strict=True)
    ]


def started(seed: int, *, solutions: int, lessons: int) -> Any:
    """Return the pocket model after lessons of which most call, whether that is needed or not.

    A model that was shown calls alone would make one for every task, and no sample would ever go without.
    """
    lessons_shown = []
    for place, task in enumerate(WORLD.tasks("train", solutions, seed=seed, levels=LEVELS)):
        session = WORLD.start(task)
        solution = WORLD.demonstrate(task)
        called = solution if place // len(LEVELS) % DIRECT else replace(solution, rounds=())
        lessons_shown.append((transcript(task, session, called), session.tools))
        session.close()
    return learner(lessons_shown, seed=seed, max_steps=lessons, learning_rate=LESSON_RATE)


def arm(*, seed: int, solutions: int, lessons: int, method: Recipe, **size: Any) -> Mapping[str, float]:
    """Train on word problems the model that was shown both ways, and judge it on held-out ones."""
    start = partial(started, solutions=solutions, lessons=lessons)
    return taught(seed=seed, method=method, agent=AGENT, world=WORLD, levels=LEVELS, start=start, **size)


_grpo = plain(agent=AGENT)

STUDY = Study(
    paper="otc",
    part="pocket",
    statement="Scaling the reward by efficiency cuts a language model's calls on held-out questions at equal success.",
    falsifier="Calls fall by less than 40 %, or success falls by 5 points or more.",
    grade="A",
    trained="the pocket model, shown 80 word problems with and without calls first, judged on held-out ones",
    arms={
        "grpo": partial(arm, method=_grpo),
        "otc": partial(arm, method=otc.recipe(_grpo)),
        "flat price": partial(arm, method=vary(_grpo, reward=flat_price)),
    },
    asks=(
        at_least("relative fall in calls", over("calls", "otc", "grpo", factor=-1.0, plus=1.0), 0.40),
        at_least("success, OTC minus GRPO", less("success", "otc", "grpo"), -0.05),
        at_least(
            "success less the flat price of its calls, OTC minus flat price",
            minus(less("success", "otc", "flat price"), lambda rows: PRICE * less("calls", "otc", "flat price")(rows)),
            -0.03,
        ),
    ),
    sizes={
        "small": {"solutions": 80, "lessons": 18, "sampled": 60_000, "tasks": 300, "batch": 64},
        "tiny": {"solutions": 80, "lessons": 18, "sampled": 1_500, "tasks": 8, "batch": 32, "learning_rate": 2e-4},
    },
    seeds=(100, 101, 102, 103, 104),
    tuning=Tuning("learning_rate", (5e-5, 1e-4, 2e-4), {"sampled": 15_000}),
    setup={"levels": LEVELS, "price": PRICE},
    models=("pocket",),
)
