"""Easy and hard prompts, up to three calls, and code that is written with care or without.

On easy prompts calls change nothing; on hard ones every call that works raises the chance of a right answer. A policy
decides turn by turn to answer, or to call with code that mostly works or with code that often fails.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.records import Call, Observation, Task, Trajectory
from ferrule.studies.table import Player

__all__ = ["CHANCES", "WORKS", "expected", "play", "start", "tasks"]

MOST = 3
WORKS = (0.95, 0.6)
"""Chance that careful and careless code runs."""
CHANCES: Mapping[str, tuple[float, float]] = {"easy": (0.95, 0.0), "hard": (0.1, 0.22)}
"""Chance of a right answer without calls, and what every call that worked adds."""


def tasks() -> list[Task]:
    """Return one task per kind of prompt; its answer is ``right``."""
    return [Task(kind, kind, answer="right") for kind in CHANCES]


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
