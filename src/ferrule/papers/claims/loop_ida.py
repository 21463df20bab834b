"""LOOP: a small stateful simulator of three apps, and equal numbers of episodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import Recipe
from ferrule.papers import loop_ida
from ferrule.studies.conditions import at_least, less, over
from ferrule.studies.standins.simulator import ACTIONS, STATES, TASKS, play, success, tasks
from ferrule.studies.study import Study
from ferrule.studies.table import plain, steps_to, train_table

__all__ = ["STUDY", "arm"]

RATE, HIGH, EVERY = 60.0, 8.0, 2
"""The usual learning rate, the factor of the high one, and updates between two measurements of success."""
# Eight tasks of six rollouts in parts of 24; the paper's parts hold 32 of 240.
_loop = partial(loop_ida.recipe, num_mini_batches=2, max_log_ratio=None)
_loop_no_clip = partial(_loop, clip=math.inf)


def arm(
    *,
    seed: int,
    steps: int,
    steps_high: int,
    change: Callable[[Recipe], Recipe] = loop_ida.plain,
    factor: float = 1.0,
    high: bool = False,
) -> dict[str, float]:
    """Train one arm; return its final success, episodes to half success, and its largest fall from a best value.

    ``high`` takes the high learning rate, for ``steps_high`` updates; ``factor`` multiplies the usual rate.
    """
    steps, factor = (steps_high, HIGH) if high else (steps, factor)
    curve: list[float] = []

    def watch(step: int, chance_SA: FloatArray) -> dict[str, float]:
        if (step + 1) % EVERY == 0:
            curve.append(success(chance_SA))
        return {}

    recipe, start_SA = change(plain()), np.zeros((STATES, ACTIONS))
    train_table(recipe, play, tasks(), start_SA, steps=steps, learning_rate=RATE * factor, seed=seed, watch=watch)
    best = np.maximum.accumulate(curve)
    return {
        "success": curve[-1],
        "success_halfway": curve[len(curve) // 2],
        "episodes_to_half": steps_to(curve, 0.5, steps / EVERY) * EVERY * TASKS * recipe.num_generations,
        "largest_fall": float((best - curve).max()),
    }


STUDY = Study(
    paper="loop-ida",
    statement="Several clipped epochs over the same rollouts save episodes; the clip range keeps them steady.",
    falsifier="Reusing rollouts saves no episodes.",
    grade="B",
    trained="a table of 64 states of a simulator of three apps",
    arms={
        "one step": arm,
        "LOOP": partial(arm, change=_loop),
        "LOOP, no clip": partial(arm, change=_loop_no_clip),
        # As many steps as LOOP takes, made at once.
        "one step, four times the rate": partial(arm, factor=4.0),
        "LOOP, high rate": partial(arm, change=_loop, high=True),
        "LOOP, no clip, high rate": partial(arm, change=_loop_no_clip, high=True),
    },
    asks=(
        at_least(
            "episodes to half success saved by LOOP, share",
            over("episodes_to_half", "LOOP", "one step", factor=-1.0, plus=1.0),
            0.5,
        ),
        at_least(
            "largest fall of success at a high learning rate, without the clip range minus with",
            less("largest_fall", "LOOP, no clip, high rate", "LOOP, high rate"),
            0.05,
        ),
    ),
    sizes={"small": {"steps": 100, "steps_high": 60}, "tiny": {"steps": 48, "steps_high": 12}},
    setup={"tasks": TASKS, "rollouts_per_task": 6, "learning_rate": RATE, "high_rate_factor": HIGH},
)
