"""A chain of four calls, one right tool out of six at every turn, and nothing that tells whether one was right.

Every turn has tools of its own, so that reference calls matched without regard to order pay right calls at their time
alone. The reference calls of a task stand in its ``meta["calls"]``.
"""

from __future__ import annotations

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.records import Call, Observation, Task, Trajectory
from ferrule.studies.table import Player

__all__ = ["KINDS", "TOOLS", "TURNS", "play", "right_tools", "success", "tasks"]

TURNS, TOOLS, KINDS = 4, 6, 4
"""Turns of a chain, tools of a turn, and tasks; the table has ``TURNS * KINDS`` rows."""


def right_tools(kind: int) -> list[int]:
    """Return the right tool of every turn of a task."""
    return [(2 * kind + 5 * turn + 1) % TOOLS for turn in range(TURNS)]


def _name(turn: int, tool: int) -> str:
    return f"turn{turn}_tool{tool}"


def tasks() -> list[Task]:
    """Return all tasks with their reference calls."""
    return [
        Task(
            f"chain{kind}",
            f"{kind}",
            meta={"kind": kind, "calls": [{"name": _name(k, tool)} for k, tool in enumerate(right_tools(kind))]},
        )
        for kind in range(KINDS)
    ]


def play(task: Task, player: Player) -> Trajectory:
    """Call one tool per turn."""
    for turn in range(TURNS):
        tool = player.decide(TURNS * task.meta["kind"] + turn, "call")
        player.turn(calls=[(Call(_name(turn, tool)), Observation("done"))])
    return player.trajectory(task, None, finish="turns")


def success(chance_SA: FloatArray) -> float:
    """Exact chance that a whole chain is right, as a mean over the tasks."""
    chains = [
        np.prod([chance_SA[TURNS * kind + turn, tool] for turn, tool in enumerate(right_tools(kind))])
        for kind in range(KINDS)
    ]
    return float(np.mean(chains))
