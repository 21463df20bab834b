"""The smallest world in which calls cost something: how many of them to make before answering.

Questions are of several kinds; ``chances[kind][m]`` is the chance of a right answer to one of that kind after ``m``
calls. The policy is a table with one row per kind and one column per number of calls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn
from ferrule.studies.table import Player

__all__ = ["Chances", "bell", "expected", "play", "play_group", "questions"]

Chances: TypeAlias = Mapping[str, Sequence[float]]


def questions(chances: Chances) -> list[Task]:
    """Return one task per kind; its answer is ``right``."""
    return [Task(kind, kind, answer="right") for kind in chances]


def bell(chances: Chances, *, near: float, spread: float) -> FloatArray:
    """Return first logits, kinds by numbers of calls: a bell around ``near`` calls of deviation ``spread`` (calls)."""
    most = max(map(len, chances.values()))
    return np.tile(-0.5 * ((np.arange(most) - near) / spread) ** 2.0, (len(chances), 1))


def play(task: Task, player: Player, *, chances: Chances) -> Trajectory:
    """Decide on a number of calls, make one a turn, and answer."""
    calls = player.decide(list(chances).index(task.id))
    for i in range(calls):
        player.turn(calls=[(Call("look", id=f"call_{i}"), Observation("result"))])
    right = player.rng.random() < chances[task.id][calls]
    return player.trajectory(task, "right" if right else "wrong")


def play_group(
    task: Task, chance_SA: FloatArray, rng: np.random.Generator, samples: int, *, chances: Chances
) -> list[Trajectory]:
    """Play all episodes of a group at once; each makes all its calls in one turn, which gives the answer as well."""
    kind = list(chances).index(task.id)
    row = chance_SA[kind]
    calls = rng.choice(len(row), size=samples, p=row)
    right = rng.random(samples) < np.asarray(chances[task.id])[calls]
    episodes = []
    for m, good in zip(calls.tolist(), right, strict=True):
        reply = Message("assistant", calls=tuple(Call("look", id=f"call_{i}") for i in range(m)))
        turn = Turn(
            0, None, (), (kind * len(row) + m,), (math.log(row[m]),), reply, observations=(Observation("result"),) * m
        )
        episodes.append(Trajectory(task, (turn,), answer="right" if good else "wrong"))
    return episodes


def expected(chance_SA: FloatArray, chances: Chances) -> dict[str, float]:
    """Return the exact mean number of calls (``calls_KIND``) and accuracy (``accuracy_KIND``) of every kind."""
    numbers = {}
    for row, (kind, right) in zip(chance_SA, chances.items(), strict=True):
        numbers[f"calls_{kind}"] = float(row @ np.arange(len(row)))
        numbers[f"accuracy_{kind}"] = float(row @ np.asarray(right))
    return numbers
