"""The experiment behind AdaReasoner's claim: when and how to call, where a tool is needed and where it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import Recipe
from ferrule.core.records import Call, Observation, Task, Tool, Trajectory
from ferrule.credit.group import group_relative
from ferrule.papers.adareasoner import VARIANTS, adareasoner_reward
from ferrule.studies.old import at_least, judged, over_seeds, scale_of
from ferrule.studies.paper import Claim

if TYPE_CHECKING:
    from ferrule.studies.table import Player

__all__ = ["ARMS", "CHANCES", "HARMLESS", "SCALES", "arm_of", "conditions_of", "play", "start"]

KINDS = ("free", "needed")
FORM, NAME, GIVEN, VALUE = 2, 3, 4, 5
SIZES = {0: 2, 1: 2, FORM: 2, NAME: 4, GIVEN: 3, VALUE: 3}
"""Decisions: to call or not (one for each kind), then form, tool, how many parameters, and value of a call."""
CHANCES: Mapping[str, tuple[float, float, float]] = {"free": (0.97, 0.80, 0.80), "needed": (0.10, 0.10, 0.90)}
"""Chance of a right answer without a call, after a flawed call, after a valid call."""
HARMLESS: Mapping[str, tuple[float, float, float]] = {**CHANCES, "free": (0.97, 0.97, 0.97)}
SCALES: Mapping[str, int] = {"small": 160, "tiny": 5}
RATE = 1.0
_NEVER = -40.0
_LOOKUP = Tool("lookup", "look up", {"type": "object", "required": ["key", "table"]}, run=lambda key, table: "")


def _seen(call: Call, value: int) -> Observation:
    """What a call comes to: the first tool and value are right, and both parameters are needed."""
    if call.problem:
        return Observation("no JSON", "malformed")
    if call.name != _LOOKUP.name:
        return Observation("no such tool", "unknown_tool")
    if len(call.arguments) < 2:
        return Observation("a parameter is missing", "malformed")
    return Observation("found") if value == 0 else Observation("no such key", "error")


def _call(player: Player) -> tuple[Call, Observation]:
    """Decide on the parts of a call, as far as it gets."""
    if player.decide(FORM, "call") == 0:
        call = Call("", problem="no JSON")
        return call, _seen(call, 0)
    tool = player.decide(NAME, "call")
    given = player.decide(GIVEN, "call")
    value = player.decide(VALUE, "call")
    call = Call(_LOOKUP.name if tool == 0 else f"other{tool}", dict.fromkeys(("key", "table")[:given], value))
    return call, _seen(call, value)


def play(task: Task, player: Player, *, chances: Mapping[str, tuple[float, float, float]]) -> Trajectory:
    """Call or not, then answer with the chance of a right answer that this leaves."""
    none, flawed, valid = chances[task.id]
    chance = none
    if player.decide(KINDS.index(task.id), "call"):
        call, seen = _call(player)
        player.turn(calls=[(call, seen)])
        chance = valid if seen.status == "ok" else flawed
    answer = "right" if player.rng.random() < chance else "wrong"
    player.turn(answer)
    return player.trajectory(task, answer)


def start() -> FloatArray:
    """Logits of the start: all choices of a decision are even."""
    logits = np.full((len(SIZES), max(SIZES.values())), _NEVER)
    for state, size in SIZES.items():
        logits[state, :size] = 0.0
    return logits


_ALWAYS: Mapping[str, Any] = {**VARIANTS["main"], "added": True}
ARMS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, tuple[float, float, float]], int]] = {
    "accuracy only": (VARIANTS["accuracy"], CHANCES, 1),
    "additive": (_ALWAYS, CHANCES, 1),
    "asymmetric": (VARIANTS["main"], CHANCES, 1),
    "asymmetric, harmless": (VARIANTS["main"], HARMLESS, 1),
    "accuracy only, longer": (VARIANTS["accuracy"], CHANCES, 3),
}
"""Arms of the claim: settings of the reward, the chances of right answers, and how many times the usual updates."""


def arm_of(arm: str, seed: int, scale: str) -> dict[str, float]:
    """Train one arm and return call rates, the chance that a call is valid, and accuracies of the trained table."""
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate
    from ferrule.studies.table import train_table

    settings, chances, times = ARMS[arm]
    credit: Any = partial(group_relative, std="unbiased")
    reward: Any = partial(adareasoner_reward, offered=lambda task: (_LOOKUP,), **settings)
    recipe = Recipe(lambda task, session: iter(()), reward, credit, surrogate, token_mean, samples=4)  # type: ignore[arg-type,return-value]
    tasks = [Task(kind, kind, answer="right") for kind in KINDS]
    table = train_table(
        recipe, partial(play, chances=chances), tasks, start(), steps=times * SCALES[scale],
        learning_rate=RATE * len(tasks), seed=seed,
    )  # fmt: skip
    chance_SA = table.chance_SA
    valid = float(chance_SA[FORM, 1] * chance_SA[NAME, 0] * chance_SA[GIVEN, 2] * chance_SA[VALUE, 0])
    out = {"valid calls": valid}
    for k, kind in enumerate(KINDS):
        calls, (none, flawed, right) = float(chance_SA[k, 1]), chances[kind]
        out[f"calls, {kind}"] = calls
        out[f"accuracy, {kind}"] = (1 - calls) * none + calls * (valid * right + (1 - valid) * flawed)
    return out


def conditions_of(scale: str, seeds: Sequence[int]) -> Claim:
    """Measure calls and accuracy with tool credit never, always, and on failure alone.

    Held when, by the 95 % intervals, the asymmetric reward calls in at most 20 % of tasks that need no tool and in at
    least half as many fewer than the additive one, loses at most 5 points of accuracy to it where a tool is needed, and
    makes at least 30 points more of its calls valid than accuracy alone. ``scale`` is ``"small"`` or ``"tiny"``.
    """
    steps = scale_of(SCALES, scale)
    measured = {arm: [arm_of(arm, seed, scale) for seed in seeds] for arm in ARMS}
    arms = over_seeds(measured)

    def lead(name: str, behind: str) -> list[float]:
        return [a[name] - o[name] for a, o in zip(measured["asymmetric"], measured[behind], strict=True)]

    free = [0.2 - row["calls, free"] for row in measured["asymmetric"]]
    conditions = [
        at_least("20 % less the asymmetric call rate where no tool is needed", free, 0.0),
        at_least("that call rate, additive minus asymmetric", [-gap for gap in lead("calls, free", "additive")], 0.5),
        at_least(
            "accuracy where a tool is needed, asymmetric minus additive", lead("accuracy, needed", "additive"), -0.05
        ),
        at_least("valid calls, asymmetric minus accuracy only", lead("valid calls", "accuracy only"), 0.3),
    ]
    harmless = [row["calls, free"] for row in measured["asymmetric, harmless"]]
    later = [row["valid calls"] for row in measured["accuracy only, longer"]]
    return judged(
        conditions,
        paper="adareasoner",
        statement="Credit for calls on failure alone brings valid calls where they are needed without forcing others.",
        arms=arms,
        falsifier="The asymmetric reward calls in over 20 % of tool-free tasks, or is over 5 points less accurate.",
        seeds=tuple(seeds),
        scale=scale,
        notes=(
            f"outside the verdict: useless calls that cost no accuracy are made in {np.mean(harmless):.3f} of tasks",
            "outside the verdict: after three times the updates, accuracy alone makes "
            f"{np.mean(later):.3f} calls valid",
        ),
        setup={
            "steps": steps,
            "samples": 4,
            "rate": RATE * len(KINDS),
            "chances": {kind: list(row) for kind, row in CHANCES.items()},
        },
    )
