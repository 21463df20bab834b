"""Whether to call and how: one lookup that some tasks need and others do not, and every part of its call a decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.records import Call, Observation, Task, Tool, Trajectory
from ferrule.studies.table import Player

__all__ = ["LOOKUP", "Chances", "expected", "play", "start", "tasks"]

FORM, NAME, GIVEN, VALUE = 2, 3, 4, 5
OPTIONS = {0: 2, 1: 2, FORM: 2, NAME: 4, GIVEN: 3, VALUE: 3}
"""Decisions: to call or not (one for each kind), then form, tool, how many parameters, and value of a call."""
Chances: TypeAlias = Mapping[str, tuple[float, float, float]]
"""By kind of task: chance of a right answer without a call, after a flawed call, after a valid call."""
LOOKUP = Tool("lookup", "look up", {"type": "object", "required": ["key", "table"]}, run=lambda key, table: "")


def tasks(chances: Chances) -> list[Task]:
    """Return one task per kind; its answer is ``right``."""
    return [Task(kind, kind, answer="right") for kind in chances]


def start() -> FloatArray:
    """Return the first logits: all choices of a decision are even."""
    logits = np.full((len(OPTIONS), max(OPTIONS.values())), -40.0)
    for state, options in OPTIONS.items():
        logits[state, :options] = 0.0
    return logits


def _call(player: Player) -> tuple[Call, Observation]:
    """Decide on the parts of a call, as far as it gets: tool and value 0 are right, and both parameters are needed."""
    if player.decide(FORM, "call") == 0:
        return Call("", problem="no JSON"), Observation("no JSON", "malformed")
    tool, given, value = (player.decide(state, "call") for state in (NAME, GIVEN, VALUE))
    call = Call(LOOKUP.name if tool == 0 else f"other{tool}", dict.fromkeys(("key", "table")[:given], value))
    if tool:
        return call, Observation("no such tool", "unknown_tool")
    if given < 2:
        return call, Observation("a parameter is missing", "malformed")
    return call, Observation("result") if value == 0 else Observation("no such key", "error")


def play(task: Task, player: Player, *, chances: Chances) -> Trajectory:
    """Call or not, then answer with the chance of a right answer that this leaves."""
    none, flawed, valid = chances[task.id]
    chance = none
    if player.decide(list(chances).index(task.id), "call"):
        call, observation = _call(player)
        player.turn(calls=[(call, observation)])
        chance = valid if observation.status == "ok" else flawed
    answer = "right" if player.rng.random() < chance else "wrong"
    player.turn(answer)
    return player.trajectory(task, answer)


def expected(chance_SA: FloatArray, chances: Chances) -> dict[str, float]:
    """Return the exact share of valid calls among calls, and how often a kind of task is called for and solved."""
    share = float(chance_SA[FORM, 1] * chance_SA[NAME, 0] * chance_SA[GIVEN, 2] * chance_SA[VALUE, 0])
    numbers = {"valid calls": share}
    for k, (kind, (none, flawed, valid)) in enumerate(chances.items()):
        calls = float(chance_SA[k, 1])
        numbers[f"calls, {kind}"] = calls
        numbers[f"accuracy, {kind}"] = (1 - calls) * none + calls * (share * valid + (1 - share) * flawed)
    return numbers
