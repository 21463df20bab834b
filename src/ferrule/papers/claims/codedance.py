"""CodeDance: easy and hard prompts, up to three calls, written with care or without.

On easy prompts calls change nothing; on hard ones every call that works raises the chance of a right answer. A policy
decides turn by turn to answer, or to call with code that mostly works or with code that often fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.records import Call, Observation, Score, Task, Trajectory
from ferrule.papers.codedance import balanced_reward, two_levels
from ferrule.rewards.outcome import outcome
from ferrule.studies.conditions import at_least, less
from ferrule.studies.study import Study
from ferrule.studies.table import Player, plain, train_table

__all__ = ["CHANCES", "STUDY", "arm", "constant_bonus", "expected", "play", "start"]

MOST = 3
WORKS = (0.95, 0.6)
"""Chance that careful and careless code runs."""
CHANCES: Mapping[str, tuple[float, float]] = {"easy": (0.95, 0.0), "hard": (0.1, 0.22)}
"""Chance of a right answer without calls, and what every call that worked adds."""


def constant_bonus(task: Task, trajectories: Sequence[Trajectory], *, bonus: float = 0.2) -> list[Score]:
    """The control: the outcome plus ``bonus`` for every call that worked, easy or hard."""
    return [
        Score(score.value + bonus * sum(o.status == "ok" for _, o in trajectory.calls), parts=score.parts)
        for score, trajectory in zip(outcome(task, trajectories), trajectories, strict=True)
    ]


def start() -> FloatArray:
    """Return the first logits: answering and both ways of calling are equally likely; after three calls it answers."""
    logits = np.zeros((len(CHANCES) * (MOST + 1), 3))
    logits[MOST :: MOST + 1, 1:] = -30.0
    return logits


def play(task: Task, player: Player) -> Trajectory:
    """Play one episode: call until an answer is given."""
    row = list(CHANCES).index(task.id) * (MOST + 1)
    worked = 0
    for calls in range(MOST + 1):
        action = player.decide(row + calls)
        if action == 0 or calls == MOST:
            break
        good = bool(player.rng.random() < WORKS[action - 1])
        worked += good
        result = Observation("done", "ok") if good else Observation("failed", "error")
        player.turn(calls=[(Call("code", id=f"call_{calls}"), result)])
    alone, gain = CHANCES[task.id]
    right = player.rng.random() < alone + gain * worked
    return player.trajectory(task, "right" if right else "wrong")


def expected(chance_SA: FloatArray) -> dict[str, float]:
    """Return exact calls, failed calls per call, and accuracy of both kinds of prompts."""
    numbers: dict[str, float] = {}
    calls_all = failed_all = 0.0
    for k, (kind, (alone, gain)) in enumerate(CHANCES.items()):
        reached, calls, worked = 1.0, 0.0, 0.0
        for turn in range(MOST):
            call_A = reached * chance_SA[k * (MOST + 1) + turn, 1:]
            calls += float(call_A.sum())
            worked += float(call_A @ np.asarray(WORKS))
            reached = float(call_A.sum())
        numbers |= {f"calls {kind}": calls, f"accuracy {kind}": alone + gain * worked}
        calls_all, failed_all = calls_all + calls, failed_all + calls - worked
    return {**numbers, "failed share": failed_all / max(calls_all, 1e-9)}


def arm(*, seed: int, steps: int, **changes: Any) -> dict[str, float]:
    """Train one arm; return expected calls and accuracy per kind, and the failed share at the end and on the way."""
    tasks = [Task(kind, kind, answer="right") for kind in CHANCES]
    table = train_table(
        plain(**changes), play, tasks, start(), steps=steps, learning_rate=1.0, seed=seed,
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
