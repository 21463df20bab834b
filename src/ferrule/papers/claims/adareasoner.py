"""AdaReasoner: when and how to call, where a tool is needed and where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.records import Call, Observation, Task, Tool, Trajectory
from ferrule.papers.adareasoner import VARIANTS, adareasoner_reward
from ferrule.studies.conditions import at_least, less, of
from ferrule.studies.study import Study
from ferrule.studies.table import Player, plain, train_table

__all__ = ["CHANCES", "HARMLESS", "STUDY", "arm", "play", "start"]

FORM, NAME, GIVEN, VALUE = 2, 3, 4, 5
OPTIONS = {0: 2, 1: 2, FORM: 2, NAME: 4, GIVEN: 3, VALUE: 3}
"""Decisions: to call or not (one for each kind), then form, tool, how many parameters, and value of a call."""
Chances = Mapping[str, tuple[float, float, float]]
CHANCES: Chances = {"free": (0.97, 0.80, 0.80), "needed": (0.10, 0.10, 0.90)}
"""Chance of a right answer without a call, after a flawed call, after a valid call."""
HARMLESS: Chances = {**CHANCES, "free": (0.97, 0.97, 0.97)}
_LOOKUP = Tool("lookup", "look up", {"type": "object", "required": ["key", "table"]}, run=lambda key, table: "")


def _call(player: Player) -> tuple[Call, Observation]:
    """Decide on the parts of a call, as far as it gets: tool and value 0 are right, and both parameters are needed."""
    if player.decide(FORM, "call") == 0:
        return Call("", problem="no JSON"), Observation("no JSON", "malformed")
    tool, given, value = (player.decide(state, "call") for state in (NAME, GIVEN, VALUE))
    call = Call(_LOOKUP.name if tool == 0 else f"other{tool}", dict.fromkeys(("key", "table")[:given], value))
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


def start() -> FloatArray:
    """Return the first logits: all choices of a decision are even."""
    logits = np.full((len(OPTIONS), max(OPTIONS.values())), -40.0)
    for state, options in OPTIONS.items():
        logits[state, :options] = 0.0
    return logits


def arm(
    *, seed: int, steps: int, settings: Mapping[str, Any], chances: Chances = CHANCES, times: int = 1
) -> dict[str, float]:
    """Train one arm for ``times`` the steps; return call rates, the share of valid calls, and exact accuracies.

    ``settings`` are those of the reward.
    """
    reward = partial(adareasoner_reward, offered=lambda task: (_LOOKUP,), **settings)
    table = train_table(
        plain(reward=reward, samples=4),
        partial(play, chances=chances),
        [Task(kind, kind, answer="right") for kind in chances],
        start(),
        steps=times * steps,
        learning_rate=1.0 * len(chances),
        seed=seed,
    )
    chance_SA = table.chance_SA
    valid = float(chance_SA[FORM, 1] * chance_SA[NAME, 0] * chance_SA[GIVEN, 2] * chance_SA[VALUE, 0])
    numbers = {"valid calls": valid}
    for k, (kind, (none, flawed, right)) in enumerate(chances.items()):
        calls = float(chance_SA[k, 1])
        numbers[f"calls, {kind}"] = calls
        numbers[f"accuracy, {kind}"] = (1 - calls) * none + calls * (valid * right + (1 - valid) * flawed)
    return numbers


STUDY = Study(
    paper="adareasoner",
    statement="Credit for calls on failure alone brings valid calls where they are needed without forcing others.",
    falsifier="The asymmetric reward calls in over 20 % of tool-free tasks, or is over 5 points less accurate.",
    trained="a table of 6 rows (whether to call by kind of task, and the parts of a call)",
    seeds=tuple(range(12)),
    arms={
        "accuracy only": partial(arm, settings=VARIANTS["accuracy"]),
        "additive": partial(arm, settings={**VARIANTS["main"], "added": True}),
        "asymmetric": partial(arm, settings=VARIANTS["main"]),
        "asymmetric, harmless": partial(arm, settings=VARIANTS["main"], chances=HARMLESS),
        "accuracy only, longer": partial(arm, settings=VARIANTS["accuracy"], times=3),
    },
    asks=(
        at_least(
            "20 % less the asymmetric call rate where no tool is needed",
            of("asymmetric", "calls, free", factor=-1.0, plus=0.2),
            0.0,
        ),
        at_least("that call rate, additive minus asymmetric", less("calls, free", "additive", "asymmetric"), 0.5),
        at_least(
            "accuracy where a tool is needed, asymmetric minus additive",
            less("accuracy, needed", "asymmetric", "additive"),
            -0.05,
        ),
        at_least(
            "valid calls, asymmetric minus accuracy only", less("valid calls", "asymmetric", "accuracy only"), 0.3
        ),
    ),
    sizes={"small": {"steps": 160}, "tiny": {"steps": 5}},
    setup={"samples": 4, "chances": CHANCES, "chances where calls are harmless": HARMLESS},
)
