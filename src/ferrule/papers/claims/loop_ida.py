"""LOOP: a small stateful simulator of three apps, and equal numbers of episodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from ferrule.core.recipe import Recipe
from ferrule.papers import loop_ida
from ferrule.studies.conditions import at_least, less, over
from ferrule.studies.standins.simulator import TASKS, learned
from ferrule.studies.study import Study
from ferrule.studies.table import plain
from ferrule.studies.tuning import Tuning

__all__ = ["STUDY", "arm"]

RATE = 60.0
"""The learning rate that ``factor`` multiplies."""
# Eight tasks of six rollouts in parts of 24; the paper's parts hold 32 of 240.
_loop = partial(loop_ida.recipe, num_mini_batches=2, max_log_ratio=None)


def arm(
    *, seed: int, steps: int, factor: float, change: Callable[[Recipe], Recipe] = loop_ida.plain
) -> dict[str, float]:
    """Train one arm; ``factor`` multiplies the learning rate."""
    return learned(change(plain()), seed=seed, steps=steps, rate=RATE * factor)


STUDY = Study(
    paper="loop-ida",
    statement="Several clipped epochs over the same rollouts save episodes, each way at its best learning rate.",
    falsifier="Reusing rollouts saves less than half of the episodes that one step takes at its best rate.",
    grade="B",
    trained="a table of 64 states of a simulator of three apps",
    arms={
        "one step": arm,
        "LOOP": partial(arm, change=_loop),
        "LOOP, no clip": partial(arm, change=partial(_loop, clip=math.inf)),
    },
    asks=(
        at_least(
            "episodes to half success saved by LOOP, share",
            over("episodes_to_half", "LOOP", "one step", factor=-1.0, plus=1.0),
            0.5,
        ),
        at_least("final success, LOOP minus one step", less("success", "LOOP", "one step"), 0.0, decides=False),
    ),
    sizes={"small": {"steps": 100}, "tiny": {"steps": 48, "factor": 1.0}},
    # At the whole budget: a short trial would favour high rates.
    tuning=Tuning("factor", (1.0, 2.0, 4.0), {}, (0, 1, 2), "area"),
    setup={"tasks": TASKS, "rollouts_per_task": 6, "learning_rate": RATE},
)
