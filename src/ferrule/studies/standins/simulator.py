"""A stateful simulator of three apps, played by a table: write the wanted value into each, then complete the task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray, IntArray
from ferrule.core.recipe import Recipe
from ferrule.core.records import Call, Observation, Task, Trajectory
from ferrule.studies.table import Player, steps_to, train_table

__all__ = [
    "ACTIONS",
    "APPS",
    "HORIZON",
    "STATES",
    "TASKS",
    "VALUES",
    "final_state",
    "learned",
    "play",
    "success",
    "tasks",
    "wanted",
]

APPS = ("contacts", "notes", "payments")
VALUES, TASKS, HORIZON = 3, 8, 6
ACTIONS = len(APPS) * VALUES + 1
"""Write one of three values into one of three apps, or complete the task (the last action)."""
STATES = TASKS * 2 ** len(APPS)
"""Rows of the table: for every task one for each set of apps that were written to."""


def tasks() -> list[Task]:
    """Return all tasks; the wanted state is checked by ``final_state``."""
    return [Task(str(i), "do it", meta={"state": {"passed": True}}) for i in range(TASKS)]


def wanted(task: int) -> tuple[int, ...]:
    """Return the value that each app must hold at the end of a task."""
    return tuple((task // 3**i + i) % VALUES for i in range(len(APPS)))


def final_state(task: int, values: Mapping[str, int], completed: bool) -> dict[str, Any]:
    """Check the end of an episode: one test per app and one for completion; none holds in an untouched state."""
    right = [values.get(app) == value for app, value in zip(APPS, wanted(task), strict=True)]
    checks = [*right, completed and any(right)]
    return {"partial": sum(checks) / len(checks), "passed": all(checks)}


def play(task: Task, player: Player) -> Trajectory:
    """Play one episode: writes until the task is completed, at most ``HORIZON`` calls."""
    number = int(task.id)
    values: dict[str, int] = {}
    for _ in range(HORIZON):
        touched = sum(2**i for i, app in enumerate(APPS) if app in values)
        action = player.decide(number * 2 ** len(APPS) + touched)
        if action == ACTIONS - 1:
            player.turn("", [(Call("complete"), Observation("done", terminal=True))])
            return player.trajectory(task, "done", final=final_state(number, values, True))
        app, value = APPS[action // VALUES], action % VALUES
        values[app] = value
        player.turn("", [(Call("write", {"app": app, "value": value}), Observation("written"))])
    return player.trajectory(task, None, finish="turns", final=final_state(number, values, False))


def _ways(task: int) -> tuple[IntArray, IntArray]:
    """Return the next state of every state and write, and which apps a state has touched.

    A state is one digit per app in base 3: untouched, right, wrong.
    """
    digits = np.asarray([[s // 3**i % 3 for i in range(len(APPS))] for s in range(3 ** len(APPS))])
    after = np.zeros((len(digits), ACTIONS - 1), dtype=np.int64)
    for state, digit in enumerate(digits):
        for action in range(ACTIONS - 1):
            place, value = divmod(action, VALUES)
            written = 1 if value == wanted(task)[place] else 2
            after[state, action] = state + (written - digit[place]) * 3**place
    return after, (digits > 0) @ (2 ** np.arange(len(APPS)))


def success(chance_SA: FloatArray) -> float:
    """Exact chance that all tests pass, as a mean over tasks."""
    goal, total = sum(3**i for i in range(len(APPS))), 0.0
    for task in range(TASKS):
        after, touched = _ways(task)
        chance = chance_SA[task * 2 ** len(APPS) + touched]
        at = np.zeros(len(after))
        at[0] = 1.0
        for _ in range(HORIZON):
            total += float(at[goal] * chance[goal, -1])
            moved = np.zeros(len(after))
            np.add.at(moved, after, at[:, None] * chance[:, :-1])
            at = moved
    return total / TASKS


def learned(recipe: Recipe, *, seed: int, steps: int, rate: float, every: int = 2) -> dict[str, float]:
    """Train the table by a recipe; return its final success, episodes to half success, and how it got there.

    ``largest_fall`` is that from a best value, ``area`` the mean success over all updates; success is measured after
    ``every`` updates. Half success that is never reached counts as all episodes.
    """
    curve: list[float] = []

    def watch(step: int, chance_SA: FloatArray) -> dict[str, float]:
        if (step + 1) % every == 0:
            curve.append(success(chance_SA))
        return {}

    start_SA = np.zeros((STATES, ACTIONS))
    train_table(recipe, play, tasks(), start_SA, steps=steps, learning_rate=rate, seed=seed, watch=watch)
    best = np.maximum.accumulate(curve)
    return {
        "success": curve[-1],
        "area": float(np.mean(curve)),
        "episodes_to_half": steps_to(curve, 0.5, steps / every) * every * TASKS * recipe.num_generations,
        "largest_fall": float((best - curve).max()),
    }
