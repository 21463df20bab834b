"""LOOP with and without its clip range at a learning rate far above the usual one."""

from __future__ import annotations

import math
from functools import partial

from ferrule.papers import loop_ida
from ferrule.studies.conditions import at_least, less
from ferrule.studies.standins.simulator import TASKS, learned
from ferrule.studies.study import Study
from ferrule.studies.table import plain

__all__ = ["STUDY", "arm"]

RATE = 8 * 60.0
"""Eight times the rate at which one step per rollout learns steadily."""
WITH, WITHOUT = "LOOP", "LOOP, no clip"


def arm(*, seed: int, steps: int, clip: float = 0.1) -> dict[str, float]:
    """Train with a clip range, infinite for none, on parts of 24 rollouts; the paper's parts hold 32 of 240."""
    recipe = loop_ida.recipe(plain(), num_mini_batches=2, max_log_ratio=None, clip=clip)
    return learned(recipe, seed=seed, steps=steps, rate=RATE)


STUDY = Study(
    paper="loop-ida",
    part="clip",
    statement="At eight times the learning rate the clip range keeps the reuse of rollouts from going wrong.",
    falsifier="Without the clip range as much is learned at that rate.",
    grade="B",
    trained="a table of 64 states of a simulator of three apps",
    arms={WITH: arm, WITHOUT: partial(arm, clip=math.inf)},
    asks=(
        at_least("final success, with the clip range minus without", less("success", WITH, WITHOUT), 0.05),
        at_least(
            "largest fall of success, without the clip range minus with",
            less("largest_fall", WITHOUT, WITH),
            0.05,
            decides=False,
        ),
    ),
    sizes={"small": {"steps": 60}, "tiny": {"steps": 12}},
    setup={"tasks": TASKS, "rollouts_per_task": 6, "learning_rate": RATE},
)
