"""ToolPO of DeepAgent: nine decisions that must all be right, six of them tool calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Score, Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.papers.deepagent import recipe, success_and_action
from ferrule.studies.conditions import Rows, at_least, less, over
from ferrule.studies.standins.picks import ANSWERS, OPTIONS, TOOLS, play, start, success, tasks
from ferrule.studies.study import Study
from ferrule.studies.table import plain, steps_to, train_table
from ferrule.studies.tuning import Tuning

__all__ = ["STUDY", "arm", "summed"]

PROMPTS = 2
RATES = (27.0, 81.0, 243.0)
"""3, 9 and 27 per decision: the loss is a mean over the nine tokens of an episode."""


def summed(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Control: success and actions as one number, which every token is credited for."""
    scores = success_and_action(task, trajectories)
    return [replace(score, value=score.parts["success"] + score.parts["action"]) for score in scores]


def arm(
    *, seed: int, steps: int, rate: float, num_generations: int = 8, change: Callable[[Recipe], Recipe] = vary
) -> dict[str, float]:
    """Train one arm; return the success of the final table and the steps it took to one half (``steps`` if never).

    ``area`` is the mean success over all steps.
    """
    chosen = vary(change(plain(credit=group_relative)), num_generations=num_generations)

    def watch(step: int, chance_SA: FloatArray) -> dict[str, float]:
        return {"success": success(chance_SA)}

    table = train_table(chosen, play, tasks(PROMPTS), start(), steps=steps, learning_rate=rate, seed=seed, watch=watch)
    curve = [row["success"] for row in table.curve]
    return {"success": curve[-1], "steps_to_half": steps_to(curve, 0.5, steps), "area": float(np.mean(curve))}


def _notes(seeds: Sequence[Rows]) -> list[str]:
    return [
        f"{name}: median {np.median([rows[name]['steps_to_half'] for rows in seeds]):.0f} steps to half success, "
        f"{sum(rows[name]['success'] > 0.9 for rows in seeds)} of {len(seeds)} seeds above 0.9"
        for name in STUDY.arms
    ]


STUDY = Study(
    paper="deepagent",
    statement="An action advantage on call tokens only learns faster than one summed reward on all tokens.",
    falsifier="ToolPO needs more than half the steps of the summed reward, or is no better than success alone.",
    grade="B",
    trained="a table of 9 decisions with 4 options each",
    arms={
        "success only": arm,
        "summed": partial(arm, change=partial(vary, reward=summed)),
        "ToolPO": partial(arm, change=recipe),
        # How much of the gap is noise that larger groups average away.
        "summed, 16 samples": partial(arm, change=partial(vary, reward=summed), num_generations=16),
        "ToolPO, 16 samples": partial(arm, change=recipe, num_generations=16),
    },
    asks=(
        at_least(
            "steps to half success saved by ToolPO, share of the summed reward's with the same seed",
            over("steps_to_half", "ToolPO", "summed", factor=-1.0, plus=1.0),
            0.5,
        ),
        at_least("final success, ToolPO minus success only", less("success", "ToolPO", "success only"), 0.5),
    ),
    sizes={"small": {"steps": 200}, "tiny": {"steps": 40, "rate": RATES[0]}},
    notes=_notes,
    tuning=Tuning("rate", RATES, {"steps": 100}, (0, 1, 2), "area"),
    setup={"decisions": TOOLS + ANSWERS, "options": OPTIONS, "prompts": PROMPTS},
)
