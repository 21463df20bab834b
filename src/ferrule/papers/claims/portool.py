"""PORTool: trees and independent samples on chains of decisions, by a table that the agents ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ferrule.agents.react import ToolLoop
from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import Recipe
from ferrule.core.records import Task, Trajectory
from ferrule.papers.portool import recipe
from ferrule.studies.conditions import at_least, less, over
from ferrule.studies.standins.decisions import Decisions
from ferrule.studies.study import Study
from ferrule.studies.table import Player, Table, plain, train_table

__all__ = ["STUDY", "arm", "grown", "sampled", "waiting"]

OPTIONS, PATHS, RATE = 4, 8, 3.0


def sampled(*, seed: int, steps: int, change: Callable[[Recipe], Recipe] | None = None, first: int = 1) -> Table:
    """Train on four decisions; return the table with success, length and tokens spent after every update."""
    base = plain(agent=ToolLoop(turns=12), samples=PATHS)
    return _trained(base if change is None else change(base), Decisions(4, first=first), seed=seed, steps=steps)


def waiting(*, seed: int, steps: int, change: Callable[[Recipe], Recipe]) -> Table:
    """Train on three decisions with an option that waits, free of charge and with a start that is mostly right.

    Nothing but the decay speaks against waiting, not the end of the tree.
    """
    start_SA = np.tile([2.0, -1.0, -1.0, 2.0], (3, 1))
    return _trained(change(plain()), Decisions(3, idle=OPTIONS - 1), seed=seed, steps=steps, start_SA=start_SA)


def _trained(chosen: Recipe, world: Decisions, *, seed: int, steps: int, start_SA: FloatArray | None = None) -> Table:
    def play(task: Task, player: Player) -> Trajectory | Sequence[Trajectory]:
        paths = world.play(task, player, agent=chosen.agent)
        return paths if chosen.samples == 1 else paths[0]

    def watch(step: int, chance_SA: FloatArray) -> dict[str, float]:
        waits = chance_SA[:, -1] if world.idle >= 0 else np.zeros(world.steps)
        return {
            "success": float(np.prod(chance_SA[:, 0] / (1 - waits))),
            "length": float(np.sum(1 / (1 - waits))),
            "tokens": float(world.spent),
        }

    start_SA = np.zeros((world.steps, OPTIONS)) if start_SA is None else start_SA
    tasks = world.tasks("train", 1)
    return train_table(chosen, play, tasks, start_SA, steps=steps, learning_rate=RATE, seed=seed, watch=watch)


grown = partial(recipe, samples=PATHS)
"""Trees instead of independent samples, as the paper grows them."""


def arm(*, seed: int, steps: int, train: Callable[..., Table] = sampled) -> dict[str, float]:
    """Train one arm and return its success, length (steps), tokens, and tokens to half success (all if never)."""
    curve = {name: [row[name] for row in rows] for rows in [train(seed=seed, steps=steps).curve] for name in rows[0]}
    success, tokens = curve["success"], curve["tokens"]
    return {
        "success": success[-1],
        "success_halfway": success[len(success) // 2],
        "mean_success": float(np.mean(success)),
        "length": curve["length"][-1],
        "tokens": tokens[-1],
        "tokens_to_half": next((cost for cost, value in zip(tokens, success, strict=True) if value >= 0.5), tokens[-1]),
    }


_saved = partial(over, factor=-1.0, plus=1.0)


STUDY = Study(
    paper="portool",
    statement="Comparing siblings speeds up learning on trees, and a decay shortens episodes at equal success.",
    falsifier="Trees without the fork term do as well, or the decay has no effect on length.",
    grade="B",
    trained="a table of 3 or 4 decisions, asked by the agents themselves",
    arms={
        "tree": partial(arm, train=partial(sampled, change=grown)),
        "tree, no fork term": partial(arm, train=partial(sampled, change=partial(grown, fork_weight=0.0))),
        "tree, mean": partial(arm, train=partial(sampled, change=partial(grown, join="mean"))),
        "samples": arm,
        "tree, long first step": partial(arm, train=partial(sampled, change=grown, first=50)),
        "samples, long first step": partial(arm, train=partial(sampled, first=50)),
        "gamma 0.95": partial(arm, train=partial(waiting, change=partial(grown, depth=12))),
        "gamma 1.0": partial(arm, train=partial(waiting, change=partial(grown, depth=12, gamma=1.0))),
    },
    asks=(
        at_least(
            "success over training, with the fork term minus without",
            less("mean_success", "tree", "tree, no fork term"),
            0.02,
        ),
        at_least(
            "episodes shorter with gamma 0.95 than with 1, share of steps",
            _saved("length", "gamma 0.95", "gamma 1.0"),
            0.1,
        ),
        at_least("success with gamma 0.95 minus with 1", less("success", "gamma 0.95", "gamma 1.0"), -0.05),
        at_least(
            "tokens to half success saved by trees over independent samples, share",
            _saved("tokens_to_half", "tree, long first step", "samples, long first step"),
            0.2,
            decides=False,
        ),
    ),
    sizes={"small": {"steps": 120}, "tiny": {"steps": 25}},
    setup={"paths": PATHS, "branch": 2, "options": OPTIONS, "tokens_of_a_long_first_step": 50},
)
