"""OTC: a table of how many calls to make, trained by GRPO with and without the efficiency coefficient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ferrule.core.flows import Reward
from ferrule.core.records import Score, Task, Trajectory
from ferrule.papers.otc import coefficient_alone, otc_reward
from ferrule.rewards.efficiency import call_cost, calls_per_success, productivity
from ferrule.rewards.outcome import outcome
from ferrule.studies.conditions import Rows, at_least, less, over
from ferrule.studies.standins.calls import Chances, bell, expected, play_group, questions
from ferrule.studies.study import Study
from ferrule.studies.table import plain, train_table

__all__ = ["STUDY", "additive_reward", "arm"]

KINDS: Chances = {
    "easy": (0.95,) * 7,
    "hard": (0.05, 0.25, 0.90, 0.92, 0.92, 0.92, 0.92),
    "unsolvable": (0.0,) * 7,
}
"""Chance of a right answer after 0 to 6 calls, for each kind of question."""


def additive_reward(task: Task, trajectories: Sequence[Trajectory], *, weight: float = 0.5) -> list[Score]:
    """Control: add the efficiency instead of multiplying, ``r0 + weight * coefficient_alone(m)``; frugal errors pay."""
    return [
        Score(value=score.value + weight * coefficient_alone(call_cost(trajectory)), parts=score.parts)
        for trajectory, score in zip(trajectories, outcome(task, trajectories), strict=True)
    ]


def arm(*, seed: int, steps: int, reward: Reward = outcome, spread: float = 2.0) -> dict[str, float]:
    """Train one arm and return expected accuracy and calls: per kind, and over the solvable kinds together."""
    tasks, start_SA = questions(KINDS), bell(KINDS, near=4, spread=spread)
    recipe, rate = plain(reward=reward), 0.5 * len(tasks)
    group = partial(play_group, chances=KINDS)
    table = train_table(recipe, None, tasks, start_SA, steps=steps, learning_rate=rate, seed=seed, group=group)
    numbers = expected(table.chance_SA, KINDS)
    right, calls = ([numbers[f"{name}_{kind}"] for kind in ("easy", "hard")] for name in ("accuracy", "calls"))
    return {
        **numbers,
        "accuracy": float(np.mean(right)),
        "calls": float(np.mean(calls)),
        "calls_per_solved": calls_per_success(right, calls),
        "productivity": productivity(right, calls),
    }


def _from_minimum(rows: Rows) -> float:
    return 0.5 - abs(float(rows["otc"]["calls_hard"]) - 2)


STUDY = Study(
    paper="otc",
    statement="Scaling the reward by call efficiency cuts calls per solved question at equal success.",
    falsifier="Hard-question accuracy falls by more than 2 points, or calls stop falling below plain GRPO.",
    trained="a table of 3 rows (numbers of calls by kind of question)",
    arms={
        "grpo": arm,
        "otc": partial(arm, reward=otc_reward),
        "additive": partial(arm, reward=additive_reward),
        "otc_narrow": partial(arm, reward=otc_reward, spread=1.0),
    },
    asks=(
        at_least(
            "relative fall in calls per solved question",
            over("calls_per_solved", "otc", "grpo", factor=-1.0, plus=1.0),
            0.40,
        ),
        at_least("accuracy, OTC minus GRPO", less("accuracy", "otc", "grpo"), -0.02),
        at_least("accuracy on hard questions, OTC minus GRPO", less("accuracy_hard", "otc", "grpo"), -0.02),
        at_least("hard questions: half a call less the distance from the minimum of 2", _from_minimum, 0.0),
        at_least(
            "calls on unsolvable questions, OTC minus additive control",
            less("calls_unsolvable", "otc", "additive"),
            1.0,
        ),
    ),
    sizes={"small": {"steps": 400}, "tiny": {"steps": 40}},
    setup={"samples": 8, "kinds": KINDS},
)
