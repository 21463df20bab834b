"""AdaReasoner: when and how to call, where a tool is needed and where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ferrule.papers.adareasoner import VARIANTS, adareasoner_reward
from ferrule.studies.conditions import at_least, less, of
from ferrule.studies.standins.call_parts import LOOKUP, Chances, expected, play, start, tasks
from ferrule.studies.study import Study
from ferrule.studies.table import plain, train_table

__all__ = ["CHANCES", "HARMLESS", "STUDY", "arm"]

CHANCES: Chances = {"free": (0.97, 0.80, 0.80), "needed": (0.10, 0.10, 0.90)}
"""Chance of a right answer without a call, after a flawed call, after a valid call."""
HARMLESS: Chances = {**CHANCES, "free": (0.97, 0.97, 0.97)}


def arm(
    *, seed: int, steps: int, settings: Mapping[str, Any], chances: Chances = CHANCES, times: int = 1
) -> dict[str, float]:
    """Train one arm for ``times`` the steps; return call rates, the share of valid calls, and exact accuracies.

    ``settings`` are those of the reward.
    """
    reward = partial(adareasoner_reward, offered=lambda task: (LOOKUP,), **settings)
    table = train_table(
        plain(reward=reward, num_generations=4),
        partial(play, chances=chances),
        tasks(chances),
        start(),
        steps=times * steps,
        learning_rate=1.0 * len(chances),
        seed=seed,
    )
    return expected(table.chance_SA, chances)


STUDY = Study(
    paper="adareasoner",
    statement="Credit for calls on failure alone brings valid calls where they are needed without forcing others.",
    falsifier="The asymmetric reward calls in over 20 % of tool-free tasks, or is over 5 points less accurate.",
    trained="a table of 6 rows (whether to call by kind of task, and the parts of a call)",
    arms={
        "accuracy only": partial(arm, settings=VARIANTS["accuracy"]),
        "additive": partial(arm, settings={**VARIANTS["main"], "added": True}),
        "asymmetric": partial(arm, settings=VARIANTS["main"]),
        "asymmetric, harmless": partial(arm, settings=VARIANTS["main"], chances=HARMLESS),
        "accuracy only, longer": partial(arm, settings=VARIANTS["accuracy"], times=3),
    },
    asks=(
        at_least(
            "20 % less the asymmetric call rate where no tool is needed",
            of("asymmetric", "calls, free", factor=-1.0, plus=0.2),
            0.0,
        ),
        at_least("that call rate, additive minus asymmetric", less("calls, free", "additive", "asymmetric"), 0.5),
        at_least(
            "accuracy where a tool is needed, asymmetric minus additive",
            less("accuracy, needed", "asymmetric", "additive"),
            -0.05,
        ),
        at_least(
            "valid calls, asymmetric minus accuracy only", less("valid calls", "asymmetric", "accuracy only"), 0.3
        ),
    ),
    sizes={"small": {"steps": 160}, "tiny": {"steps": 5}},
    setup={"samples": 4, "chances": CHANCES, "chances where calls are harmless": HARMLESS},
)
