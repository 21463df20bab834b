"""Eight places at which to think or to call a tool, and an answer in which the place of the call plays no part."""

from __future__ import annotations

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.records import Call, Observation, Task, Trajectory
from ferrule.studies.table import Player

__all__ = ["PLACES", "expected", "play", "start", "tasks"]

PLACES, OPTIONS = 8, 4


def tasks(count: int) -> list[Task]:
    """Return tasks whose answer is ``right``."""
    return [Task(str(i), "?", answer="right") for i in range(count)]


def start() -> FloatArray:
    """Return the first logits: thinking is likelier than calling, and one answer of four is right."""
    logits = np.zeros((PLACES + 1, OPTIONS))
    logits[:PLACES] = [1.0, -0.5, -1e9, -1e9]  # two options only: think or call
    return logits


def play(task: Task, player: Player) -> Trajectory:
    """Think or call at up to eight places, one a turn, then answer."""
    for place in range(PLACES):
        if player.decide(place):
            player.turn("", [(Call("python"), Observation("printed"))])
            break
        player.turn("thinking")
    return player.trajectory(task, "right" if player.decide(PLACES) == 0 else "wrong")


def expected(chance_SA: FloatArray) -> dict[str, float]:
    """Return exact accuracy, chance of a call, and mean place of the first call (``PLACES`` without one)."""
    still = np.concatenate([[1.0], np.cumprod(chance_SA[:PLACES, 0])])
    return {"accuracy": float(chance_SA[PLACES, 0]), "calls": float(1 - still[-1]), "place": float(still[1:].sum())}
