"""The experiment behind LOOP's claim: a small stateful simulator of three apps, and equal numbers of episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray, IntArray
from ferrule.core.recipe import Recipe
from ferrule.core.records import Call, Observation, Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.papers.loop_ida import plain, recipe
from ferrule.rewards.outcome import outcome
from ferrule.studies.old import Condition, at_least, judged, over_seeds, scale_of
from ferrule.studies.paper import Claim

__all__ = ["ARMS", "SCALES", "final_state", "measure", "run", "success"]

APPS = ("contacts", "notes", "payments")
VALUES, TASKS, HORIZON = 3, 8, 6
ACTIONS = len(APPS) * VALUES + 1
"""Write one of three values into one of three apps, or complete the task (the last action)."""
SCALES: Mapping[str, tuple[int, int]] = {"small": (100, 60), "tiny": (4, 2)}
"""Iterations at the usual learning rate, and at the high one."""
LEARNING_RATE = 60.0
HIGH = 8.0
"""Factor of the high learning rate."""
ARMS: tuple[str, ...] = ("one step", "LOOP", "LOOP, no clip")


def wanted(task: int) -> tuple[int, ...]:
    """Value that each app must hold at the end of a task."""
    return tuple((task // 3**i + i) % VALUES for i in range(len(APPS)))


def final_state(task: int, held: Mapping[str, int], completed: bool) -> dict[str, Any]:
    """Check the end of an episode: one test per app and one for completion; an untouched state holds none."""
    right = [held.get(app) == value for app, value in zip(APPS, wanted(task), strict=True)]
    checks = [*right, completed and any(right)]
    return {"partial": sum(checks) / len(checks), "passed": all(checks)}


def _play(task: Task, player: Any) -> Trajectory:
    number = int(task.id)
    held: dict[str, int] = {}
    for _ in range(HORIZON):
        touched = sum(2**i for i, app in enumerate(APPS) if app in held)
        action = player.decide(number * 2 ** len(APPS) + touched)
        if action == ACTIONS - 1:
            player.turn("", [(Call("complete"), Observation("done", terminal=True))])
            return player.trajectory(task, "done", final=final_state(number, held, True))  # type: ignore[no-any-return]
        app, value = APPS[action // VALUES], action % VALUES
        held[app] = value
        player.turn("", [(Call("write", {"app": app, "value": value}), Observation("written"))])
    return player.trajectory(task, None, finish="turns", final=final_state(number, held, False))  # type: ignore[no-any-return]


def _ways(task: int) -> tuple[IntArray, IntArray]:
    """Return the next state of every state and write, and which apps a state has touched.

    A state is one digit per app in base 3: untouched, right, wrong.
    """
    digits = np.asarray([[s // 3**i % 3 for i in range(len(APPS))] for s in range(3 ** len(APPS))])
    after = np.zeros((len(digits), ACTIONS - 1), dtype=np.int64)
    for s, own in enumerate(digits):
        for action in range(ACTIONS - 1):
            place, value = divmod(action, VALUES)
            made = 1 if value == wanted(task)[place] else 2
            after[s, action] = s + (made - own[place]) * 3**place
    return after, (digits > 0) @ (2 ** np.arange(len(APPS)))


def success(chance_SA: FloatArray) -> float:
    """Exact chance that all tests pass, as a mean over tasks."""
    goal, out = sum(3**i for i in range(len(APPS))), 0.0
    for task in range(TASKS):
        after, touched = _ways(task)
        own = chance_SA[task * 2 ** len(APPS) + touched]
        at = np.zeros(len(after))
        at[0] = 1.0
        for _ in range(HORIZON):
            out += float(at[goal] * own[goal, -1])
            moved = np.zeros(len(after))
            np.add.at(moved, after, at[:, None] * own[:, :-1])
            at = moved
    return out / TASKS


def _recipe(arm: str) -> Recipe:
    from ferrule.agents.react import ToolLoop
    from ferrule.objectives.reduce import sequence_mean
    from ferrule.objectives.surrogate import surrogate

    base = Recipe(ToolLoop(), outcome, group_relative, surrogate, sequence_mean)
    if arm == "one step":
        return plain(base)
    # Eight tasks of six rollouts in parts of 24; the paper's parts hold 32 of 240.
    return recipe(base, minibatches=2, clip=math.inf if "no clip" in arm else 0.1)


def run(arm: str, *, seed: int, steps: int, factor: float = 1.0, every: int = 2) -> dict[str, float]:
    """Train one arm; return its final success, episodes to half success, and its largest fall from a best value."""
    from ferrule.studies.table import train_table

    tasks = [Task(str(i), "do it", meta={"state": {"passed": True}}) for i in range(TASKS)]
    curve: list[float] = []

    def watch(step: int, chance_SA: FloatArray) -> dict[str, float]:
        if (step + 1) % every == 0:
            curve.append(success(chance_SA))
        return {}

    start = np.zeros((TASKS * 2 ** len(APPS), ACTIONS))
    chosen = _recipe(arm)
    train_table(chosen, _play, tasks, start, steps=steps, learning_rate=LEARNING_RATE * factor, seed=seed, watch=watch)
    per_step = TASKS * chosen.samples
    reached = next(((i + 1) * every for i, value in enumerate(curve) if value >= 0.5), steps)
    best = np.maximum.accumulate(curve)
    return {
        "success": curve[-1],
        "success_halfway": curve[len(curve) // 2],
        "episodes_to_half": float(reached * per_step),
        "largest_fall": float((best - curve).max()),
    }


def _conditions(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Condition]:
    saved = [
        1 - own["episodes_to_half"] / plain["episodes_to_half"]
        for plain, own in zip(rows["one step"], rows["LOOP"], strict=True)
    ]
    steadier = [
        loose["largest_fall"] - own["largest_fall"]
        for own, loose in zip(rows["LOOP, high rate"], rows["LOOP, no clip, high rate"], strict=True)
    ]
    return [
        at_least("episodes to half success saved by LOOP, share", saved, 0.5),
        at_least("largest fall of success at a high learning rate, without the clip range minus with", steadier, 0.05),
    ]


def measure(scale: str, seeds: Sequence[int]) -> Claim:
    """Compare one step per batch with LOOP at equal episodes, and LOOP with and without its clip range at a high rate.

    ``scale`` is ``"small"`` (100 iterations, 60 at the high rate) or ``"tiny"`` (4 and 2, to try the machinery). An arm
    with one step at four times the rate stands beside the verdict: as many steps as LOOP takes, made at once.
    """
    steps, few = scale_of(SCALES, scale)
    runs: dict[str, Any] = {arm: partial(run, arm, steps=steps) for arm in ARMS}
    runs["one step, four times the rate"] = partial(run, "one step", steps=steps, factor=4.0)
    runs |= {f"{arm}, high rate": partial(run, arm, steps=few, factor=HIGH) for arm in ARMS[1:]}
    rows = {arm: [one(seed=seed) for seed in seeds] for arm, one in runs.items()}
    conditions = _conditions(rows)
    notes = []
    for arm, found in rows.items():
        means = {name: float(np.mean([row[name] for row in found])) for name in found[0]}
        notes.append(
            f"{arm}: success {means['success_halfway']:.3f} halfway and {means['success']:.3f} at the end, "
            f"{means['episodes_to_half']:.0f} episodes to half success, largest fall {means['largest_fall']:.3f}"
        )
    return judged(
        conditions,
        paper="loop-ida",
        statement="Several clipped epochs over the same rollouts save episodes; the clip range keeps them steady.",
        arms=over_seeds(rows),
        falsifier="Reusing rollouts saves no episodes.",
        seeds=tuple(seeds),
        scale=scale,
        notes=notes,
        setup={
            "iterations": steps,
            "iterations_at_the_high_rate": few,
            "tasks": TASKS,
            "rollouts_per_task": 6,
            "learning_rate": LEARNING_RATE,
            "high_rate_factor": HIGH,
        },
    )
