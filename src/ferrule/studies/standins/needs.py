"""Three kinds of questions and two tools: a search, a program, or a search and then a program is needed.

A policy decides turn by turn which tool to call, whether to muse at length, or to answer. All questions of a kind share
their rows of the table, one for each number of calls that were of use.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.records import Call, Observation, Task, Trajectory
from ferrule.studies.table import Player

__all__ = [
    "ACTIONS", "NEEDS", "OBSERVED", "WORDS", "all_words", "evaluate", "play", "start", "tasks", "written_words",
]  # fmt: skip

NEEDS: Mapping[str, tuple[str, ...]] = {"lookup": ("search",), "sums": ("code",), "both": ("search", "code")}
"""Calls that a kind of question needs, in order."""
ACTIONS = ("answer", "search", "code", "muse")
STAGES = 3
ROUNDS = 4
KNOWN, GUESSED = 0.95, 0.05
"""Chance of a right answer with and without all that is needed."""
WORDS: Mapping[str, int] = {"answer": 10, "search": 10, "code": 10, "muse": 40}
"""Tokens that the model writes for an action."""
OBSERVED = 60
"""Tokens of an observation."""


def tasks(count: int) -> list[Task]:
    """Return ``count`` questions, as many of each kind."""
    return [
        Task(f"{kind}/{i}", "?", "right", meta={"kind": kind}) for i in range(count // len(NEEDS)) for kind in NEEDS
    ]


def start() -> FloatArray:
    """Return the first logits: a policy that answers at once in 55 of 100 cases, and rarely knows which tool."""
    row = np.log([0.55, 0.15, 0.15, 0.15])
    return np.tile(row, (len(NEEDS) * STAGES, 1))


def play(task: Task, player: Player) -> Trajectory:
    """Play one episode: at most ``ROUNDS`` turns before the last one, in which only an answer counts."""
    kind = str(task.meta["kind"])
    needs, stage = NEEDS[kind], 0
    for turn in range(ROUNDS + 1):
        action = ACTIONS[player.decide(list(NEEDS).index(kind) * STAGES + stage)]
        if action == "answer":
            player.turn(action)
            right = player.rng.random() < (KNOWN if stage == len(needs) else GUESSED)
            return player.trajectory(task, "right" if right else "wrong")
        if action == "muse" or turn == ROUNDS:
            player.turn(action)
            continue
        fits = stage < len(needs) and needs[stage] == action
        stage += fits
        player.turn(action, [(Call(action, id=f"call_{turn}"), Observation("seen", "ok" if fits else "error"))])
    return player.trajectory(task, None, finish="turns")


def evaluate(chance_SA: FloatArray) -> dict[str, float]:
    """Return the exact accuracy and calls of every kind, and their means."""
    figures: dict[str, float] = {}
    for k, (kind, needs) in enumerate(NEEDS.items()):
        at = np.zeros(STAGES)
        at[0], right, calls = 1.0, 0.0, 0.0
        for turn in range(ROUNDS + 1):
            chance = chance_SA[k * STAGES : (k + 1) * STAGES]
            known = np.where(np.arange(STAGES) == len(needs), KNOWN, GUESSED)
            right += float((at * chance[:, 0] * known).sum())
            calls += float((at * chance[:, 1:3].sum(1)).sum()) if turn < ROUNDS else 0.0
            later = at * (1 - chance[:, 0])
            for stage, need in enumerate(needs if turn < ROUNDS else ()):
                moved = at[stage] * chance[stage, ACTIONS.index(need)]
                later[stage] -= moved
                later[stage + 1] += moved
            at = later
        figures |= {f"accuracy {kind}": right, f"calls {kind}": calls}
    for name in ("accuracy", "calls"):
        figures[name] = float(np.mean([figures[f"{name} {kind}"] for kind in NEEDS]))
    return figures


def written_words(trajectory: Trajectory) -> float:
    """Count what the model wrote: the tokens of its actions."""
    return float(sum(WORDS[str(turn.reply.content)] for turn in trajectory.turns))


def all_words(trajectory: Trajectory) -> float:
    """Count observations as well."""
    return written_words(trajectory) + OBSERVED * len(trajectory.calls)
