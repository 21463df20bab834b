"""CodeDance: a table that calls with care or without, on prompts that need calls and on others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.records import Score, Task, Trajectory
from ferrule.papers.codedance import balanced_reward, two_levels
from ferrule.rewards.outcome import outcome
from ferrule.studies.conditions import at_least, less
from ferrule.studies.standins.care import CHANCES, WORKS, expected, play, start, tasks
from ferrule.studies.study import Study
from ferrule.studies.table import plain, train_table

__all__ = ["STUDY", "arm", "constant_bonus"]


def constant_bonus(task: Task, trajectories: Sequence[Trajectory], *, bonus: float = 0.2) -> list[Score]:
    """The control: the outcome plus ``bonus`` for every call that worked, easy or hard."""
    return [
        Score(score.value + bonus * sum(o.status == "ok" for _, o in trajectory.calls), parts=score.parts)
        for score, trajectory in zip(outcome(task, trajectories), trajectories, strict=True)
    ]


def arm(*, seed: int, steps: int, **changes: Any) -> dict[str, float]:
    """Train one arm; return expected calls and accuracy per kind, and the failed share at the end and on the way."""
    table = train_table(
        plain(**changes), play, tasks(), start(), steps=steps, learning_rate=1.0, seed=seed,
        watch=lambda step, chance_SA: expected(chance_SA),
    )  # fmt: skip
    failed = [row["failed share"] for row in table.curve]
    return {**expected(table.chance_SA), "failed share, mean of training": float(np.mean(failed))}


STUDY = Study(
    paper="codedance",
    statement="Paying calls by difficulty keeps them on hard prompts and removes them from easy ones.",
    falsifier="Easy prompts see less than one call fewer than with a constant bonus, or hard ones lose 3 points.",
    trained="a table of 8 rows (answer, or call with or without care, by kind of prompt and calls so far)",
    arms={
        "outcome": arm,
        "bonus": partial(arm, reward=constant_bonus),
        "balanced, no turn term": partial(arm, reward=balanced_reward),
        "balanced": partial(arm, reward=balanced_reward, credit=two_levels),
    },
    asks=(
        at_least("calls on easy prompts, constant bonus minus balanced", less("calls easy", "bonus", "balanced"), 1.0),
        at_least(
            "accuracy on hard prompts, balanced minus constant bonus",
            less("accuracy hard", "balanced", "bonus"),
            -0.03,
        ),
        at_least(
            "failed share during training, without minus with the turn term",
            less("failed share, mean of training", "balanced, no turn term", "balanced"),
            0.0,
        ),
    ),
    sizes={"small": {"steps": 250}, "tiny": {"steps": 8}},
    setup={"samples": 8, "chances": CHANCES, "works": WORKS},
)
