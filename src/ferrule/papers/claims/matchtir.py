"""MatchTIR: a chain of four calls, learnt from outcome, summed turn rewards or dual-level credit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.arrays import apply, pack
from ferrule.core.flows import Reward
from ferrule.core.records import Score, Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.papers.matchtir import dual_level, matchtir_reward
from ferrule.studies.conditions import at_least, less
from ferrule.studies.standins.chain import KINDS, TOOLS, TURNS, play, right_tools, success, tasks
from ferrule.studies.study import Study
from ferrule.studies.table import Player, plain, train_table

__all__ = ["STUDY", "arm", "opposite_signs", "whole_chain"]

SAMPLES = 8


def whole_chain(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Score 1 for a chain that is right throughout, else 0: the outcome alone."""
    return [Score(float(score.value == TURNS)) for score in matchtir_reward(task, trajectories)]


def opposite_signs(credit: Any, groups: int, seed: int) -> float:
    """Share of chains, right in the first half and wrong in the second, whose halves get advantages above and below 0.

    A half counts by its mean. Groups are drawn from a policy that is right at every turn with chance one half.
    """
    chance_SA = np.full((TURNS * KINDS, TOOLS), 0.5 / (TOOLS - 1))
    chains = tasks()
    for kind in range(KINDS):
        chance_SA[TURNS * kind + np.arange(TURNS), right_tools(kind)] = 0.5
    rng, half_right, split = np.random.default_rng([seed, 23]), 0, 0
    for i in range(groups):
        group = [play(chains[i % KINDS], Player(chance_SA, rng)) for _ in range(SAMPLES)]
        scores = matchtir_reward(chains[i % KINDS], group)
        adv_NT = apply(credit, pack(group, scores, [0] * SAMPLES))
        for row, score in zip(adv_NT, scores, strict=True):
            if score.turns == (1.0, 1.0, 0.0, 0.0):
                half_right += 1
                split += bool(row[:2].mean() > 0 > row[2:].mean())
    return split / max(half_right, 1)


def arm(*, seed: int, steps: int, groups: int, reward: Reward, credit: Any) -> dict[str, float]:
    """Train one arm; return success on the way and its mean over the first 50 updates, and the split of signs."""
    table = train_table(
        plain(reward=reward, credit=credit, num_generations=SAMPLES), play, tasks(), np.zeros((TURNS * KINDS, TOOLS)),
        steps=steps, learning_rate=4.0 * KINDS, seed=seed, watch=lambda step, chance_SA: {"now": success(chance_SA)},
    )  # fmt: skip
    curve = [row["now"] for row in table.curve]
    numbers = {f"success after {at}": curve[min(at, len(curve)) - 1] for at in (20, 50, 150)}
    numbers["mean success over 50"] = float(np.mean(curve[:50]))
    return {**numbers, "opposite signs": opposite_signs(credit, groups, seed)}


_GROUP = partial(group_relative, std="unbiased")
STUDY = Study(
    paper="matchtir",
    statement="Matched turn rewards teach a chain long before its outcome does; the turn level is no slower than "
    "their sum and gives the halves of a half-right chain opposite signs.",
    falsifier="Dual-level credit is slower than the sum, the outcome alone comes within 10 points after 50 "
    "updates, or fewer than half of the half-right chains get opposite signs.",
    grade="B",
    trained="a table of 16 rows (tools by task and turn) on chains of four calls",
    arms={
        "outcome": partial(arm, reward=whole_chain, credit=_GROUP),
        "summed": partial(arm, reward=matchtir_reward, credit=_GROUP),
        "dual": partial(arm, reward=matchtir_reward, credit=dual_level),
        "turn level alone": partial(arm, reward=matchtir_reward, credit=partial(dual_level, mix=1.0)),
    },
    asks=(
        at_least(
            "mean success over 50 updates, dual minus summed", less("mean success over 50", "dual", "summed"), 0.0
        ),
        at_least("success after 50 updates, dual minus outcome", less("success after 50", "dual", "outcome"), 0.10),
        at_least(
            "half-right chains with opposite signs, dual minus summed", less("opposite signs", "dual", "summed"), 0.5
        ),
    ),
    sizes={"small": {"steps": 150, "groups": 200}, "tiny": {"steps": 4, "groups": 20}},
    setup={"samples": SAMPLES, "turns": TURNS, "tools": TOOLS, "tasks": KINDS},
)
