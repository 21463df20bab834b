"""VerlTool: schedules over waiting models and tools, and training with and without the observation mask."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from ferrule.agents.react import ToolLoop
from ferrule.core.arrays import IntArray, pack
from ferrule.core.records import Score, Task
from ferrule.evaluate.metrics import student_interval
from ferrule.objectives.reduce import token_mean, totals
from ferrule.objectives.supervised import nll
from ferrule.policies.local import load
from ferrule.policies.pocket import WEIGHTS
from ferrule.rollout.drive import drive
from ferrule.speed.schedules import exponential, heavy, race
from ferrule.studies.conditions import Rows, at_least, of, over
from ferrule.studies.recurrent import one_thread
from ferrule.studies.study import Study
from ferrule.train.optimiser import optimiser_of
from ferrule.train.settings import Settings
from ferrule.train.update import Sequences, update
from ferrule.worlds.apis import Apis

__all__ = ["STUDY", "learn", "races"]

LAWS = {"exponential": exponential, "heavy tail": heavy}
"""Law of the tool's times by setting; replies take exponential times in both."""
TURNS = (1, 3, 6)
LEVELS = (1, 2)
"""Levels of the look-ups: one call each."""
SETTINGS = {f"{name}, {turns} turn{'s' * (turns > 1)}": (name, turns) for name in LAWS for turns in TURNS}


def races(*, seed: int, trajectories: int, mean: float, **_: Any) -> dict[str, dict[str, float]]:
    """Play every setting under both schedules; return one row per schedule."""
    rows: dict[str, dict[str, float]] = {"lock-step": {}, "asynchronous": {}}
    same = []
    for setting, (name, turns) in SETTINGS.items():
        measured = race(LAWS[name], turns, seed=seed, trajectories=trajectories, mean=mean)
        same.append(measured["same"])
        for schedule, row in rows.items():
            row[f"seconds, {setting}"] = measured[schedule]
            row[f"least seconds, {setting}"] = measured[f"least {schedule}"]
    rows["asynchronous"]["share of equal trajectories"] = min(same)
    return rows


def _observed(ids_NT: IntArray, turn_NT: IntArray) -> IntArray:
    """Mark observation tokens: what stands between a row's model tokens without being one; -1 elsewhere."""
    mine = turn_NT >= 0
    started = np.maximum.accumulate(mine, axis=1)
    ahead = np.maximum.accumulate(mine[:, ::-1], axis=1)[:, ::-1]
    return np.where(started & ahead & ~mine & (ids_NT >= 0), 0, -1)


def _played(policy: Any, world: Any, tasks: Sequence[Task], seed: int) -> tuple[IntArray, IntArray]:
    """Roll out tasks and return ids and turn index of the episodes in which a tool was used."""
    episodes = drive(ToolLoop(turns=3, max_tokens=64), tasks, world, policy, seed=seed, temperature=1.0)
    used = [e.trajectories[0] for e in episodes if any(o.executed for _, o in e.trajectories[0].calls)]
    if not used:
        raise ValueError(f"no tool was used in {len(tasks)} episodes (seed {seed}); play more tasks")
    signals = pack(used, [Score(0.0)] * len(used), range(len(used)))
    return signals.ids_NT, signals.turn_NT


@one_thread()
def learn(*, seed: int, masked: bool, tasks: int, steps: int, **_: Any) -> dict[str, float]:
    """Fine-tune the pocket model on its own look-ups, with observation tokens masked or trained on.

    Returns the mean log-probability (nats per token) of observation tokens on held-out episodes ``before`` and
    ``after``, their difference ``rise``, and ``gradient``, the largest derivative of the first loss by the
    log-probability of an observation token.
    """
    world, policy = Apis(), load(WEIGHTS, device="cpu")
    ids, turn = _played(policy, world, world.tasks("train", tasks, seed=seed, levels=LEVELS), seed)
    held_ids, held_turn = _played(policy, world, world.tasks("test", tasks, seed=seed, levels=LEVELS), seed)
    observed, held_out = _observed(ids, turn), _observed(held_ids, held_turn)
    trained = turn if masked else np.where(observed >= 0, 0, turn)

    def observation_logp() -> float:
        with torch.no_grad():
            logp = policy.logps(torch.from_numpy(held_ids), torch.from_numpy(held_out))["logp_NT"]
        return float(logp.sum()) / max(int((held_out >= 0).sum()), 1)

    rows, target = torch.from_numpy(ids), torch.from_numpy(trained)
    every = torch.from_numpy(np.where(observed >= 0, 0, turn))
    logp_NT = policy.logps(rows, every)["logp_NT"]
    loss = token_mean(nll(logp_NT, target), target, totals(target))
    (slope_NT,) = torch.autograd.grad(loss, logp_NT)
    gradient = float(slope_NT[torch.from_numpy(observed >= 0)].abs().max())

    before = observation_logp()
    optimiser = optimiser_of(policy, Settings(learning_rate=1e-4, seed=seed))
    seqs = Sequences(list(ids), list(trained))
    for step in range(steps):
        update(policy, seqs, nll, token_mean, optimiser, rows=16, seed=seed + step)
    after = observation_logp()
    return {"before": before, "after": after, "rise": after - before, "gradient": gradient}


def _notes(seeds: Sequence[Rows]) -> list[str]:
    """One line per setting: the measured ratio with its interval, and what the drawn times alone would give."""
    lines = [
        "A simulation of schedules: replies and calls are waits, drawn from the stated laws and run by the real "
        "drivers. It measures the cost of waiting for each other, not a model or a tool."
    ]
    for setting in SETTINGS:
        ratios, bounds = (
            [over(f"{kind}, {setting}", "lock-step", "asynchronous")(rows) for rows in seeds]
            for kind in ("seconds", "least seconds")
        )
        low, high = student_interval(ratios)
        effect, bound = np.mean(ratios), np.mean(bounds)
        lines.append(f"ratio, {setting}: {effect:.2f} [{low:.2f}, {high:.2f}], without any overhead {bound:.2f}")
    return lines


STUDY = Study(
    paper="verltool",
    statement=(
        "Trajectories at their own pace finish earlier than in lock-step and are the same; training on "
        "observation tokens raises their probability, and the mask keeps their gradient at 0."
    ),
    falsifier="The ratio at 3 turns is under 1.3, or the two schedules leave different trajectories.",
    trained="the pocket model on its own look-ups, for the mask; schedules only wait",
    models=("pocket",),
    arms={
        "races": races,
        "mask on": partial(learn, masked=True),
        "mask off": partial(learn, masked=False),
    },
    asks=(
        *(
            at_least(
                f"lock-step over asynchronous at 3 turns, {name} (simulated schedule: model and tools only wait)",
                over(f"seconds, {name}, 3 turns", "lock-step", "asynchronous"),
                1.3,
            )
            for name in LAWS
        ),
        at_least("share of runs with equal trajectories", of("asynchronous", "share of equal trajectories"), 1.0),
        at_least("rise of observation log-prob without the mask", of("mask off", "rise"), 0.0),
        at_least("minus observation gradient with the mask", of("mask on", "gradient", factor=-1.0), 0.0),
    ),
    sizes={
        "small": {"trajectories": 64, "mean": 0.05, "tasks": 32, "steps": 12},
        "tiny": {"trajectories": 6, "mean": 0.002, "tasks": 16, "steps": 2},
    },
    seeds=tuple(range(6)),
    machine=tuple(f"seconds, {setting}" for setting in SETTINGS),
    notes=_notes,
    setup={"turns": list(TURNS)},
)
