"""Decisions that must all be right: six tool calls, then three tokens of an answer."""

from __future__ import annotations

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.records import Call, Observation, Task, Trajectory
from ferrule.studies.table import Player

__all__ = ["ANSWERS", "OPTIONS", "TOOLS", "play", "start", "success", "tasks"]

TOOLS, ANSWERS, OPTIONS = 6, 3, 4


def tasks(count: int) -> list[Task]:
    """Return ``count`` prompts; all ask for the same decisions."""
    return [Task(f"prompt {i}", "choose", answer="right") for i in range(count)]


def start() -> FloatArray:
    """Return even logits: one row per decision."""
    return np.zeros((TOOLS + ANSWERS, OPTIONS))


def play(task: Task, player: Player) -> Trajectory:
    """Make six calls and three answer tokens; option 0 is right everywhere, and a wrong call is refused by its tool."""
    picks = []
    for state in range(TOOLS):
        picks.append(player.decide(state, "call"))
        call = Call("choose", {"place": state, "option": picks[-1]})
        player.turn("", [(call, Observation("done", "ok" if picks[-1] == 0 else "error"))])
    picks += [player.decide(TOOLS + i) for i in range(ANSWERS)]
    return player.trajectory(task, "right" if not any(picks) else "wrong")


def success(chance_SA: FloatArray) -> float:
    """Exact chance that all decisions are right."""
    return float(np.prod(chance_SA[:, 0]))
