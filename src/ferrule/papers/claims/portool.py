"""PORTool: trees and independent samples on chains of decisions, by a table that the agents ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from ferrule.agents.react import ToolLoop
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Task, Trajectory
from ferrule.papers.portool import recipe
from ferrule.studies.conditions import at_least, less, over
from ferrule.studies.standins.decisions import Decisions
from ferrule.studies.study import Study
from ferrule.studies.table import Player, plain, train_table

__all__ = ["STUDY", "arm", "grown"]

OPTIONS, PATHS, RATE = 4, 8, 3.0
Change: TypeAlias = Callable[[Recipe], Recipe]


def arm(*, seed: int, steps: int, change: Change = vary, first: int = 1, waits: bool = False) -> dict[str, float]:
    """Train one arm and return its success, length (steps), tokens, and tokens to half success (all if never).

    Without a ``change`` there are independent samples. There are four decisions, of which the first costs ``first``
    tokens. With ``waits`` there are three, one option waits, and the start is mostly right: waiting is free, and
    nothing but the decay speaks against it, not the end of the tree.
    """
    chosen = change(plain(agent=ToolLoop(turns=12), num_generations=PATHS))
    world = Decisions(3, idle=OPTIONS - 1) if waits else Decisions(4, first=first)
    start_SA = np.tile([2.0, -1.0, -1.0, 2.0], (3, 1)) if waits else np.zeros((4, OPTIONS))

    def play(task: Task, player: Player) -> Trajectory | Sequence[Trajectory]:
        paths = world.play(task, player, agent=chosen.agent)
        return paths if chosen.num_generations == 1 else paths[0]

    table = train_table(
        chosen, play, world.tasks("train", 1), start_SA, steps=steps, learning_rate=RATE, seed=seed,
        watch=lambda step, chance_SA: world.expected(chance_SA),
    )  # fmt: skip
    last, success = table.curve[-1], [row["success"] for row in table.curve]
    return {
        "success": success[-1],
        "success_halfway": success[len(success) // 2],
        "mean_success": float(np.mean(success)),
        "length": last["length"],
        "tokens": last["tokens"],
        "tokens_to_half": next((row["tokens"] for row in table.curve if row["success"] >= 0.5), last["tokens"]),
    }


grown = partial(recipe, num_generations=PATHS)
"""Trees instead of independent samples, as the paper grows them."""
_saved = partial(over, factor=-1.0, plus=1.0)


STUDY = Study(
    paper="portool",
    statement="Comparing siblings speeds up learning on trees, and a decay shortens episodes at equal success.",
    falsifier="Trees without the fork term do as well, or the decay has no effect on length.",
    grade="B",
    trained="a table of 3 or 4 decisions, asked by the agents themselves",
    arms={
        "tree": partial(arm, change=grown),
        "tree, no fork term": partial(arm, change=partial(grown, fork_weight=0.0)),
        "tree, mean": partial(arm, change=partial(grown, join="mean")),
        "samples": arm,
        "tree, long first step": partial(arm, change=grown, first=50),
        "samples, long first step": partial(arm, first=50),
        "gamma 0.95": partial(arm, change=partial(grown, depth=12), waits=True),
        "gamma 1.0": partial(arm, change=partial(grown, depth=12, gamma=1.0), waits=True),
    },
    asks=(
        at_least("mean success gained by the fork term", less("mean_success", "tree", "tree, no fork term"), 0.02),
        at_least("share of steps saved by gamma 0.95 over 1", _saved("length", "gamma 0.95", "gamma 1.0"), 0.1),
        at_least("success with gamma 0.95 minus with 1", less("success", "gamma 0.95", "gamma 1.0"), -0.05),
        at_least(
            "share of tokens to half success saved by trees over independent samples",
            _saved("tokens_to_half", "tree, long first step", "samples, long first step"),
            0.2,
            decides=False,
        ),
    ),
    sizes={"small": {"steps": 120}, "tiny": {"steps": 25}},
    setup={"paths": PATHS, "branch": 2, "options": OPTIONS, "tokens_of_a_long_first_step": 50},
)
