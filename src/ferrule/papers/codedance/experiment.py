"""The experiment behind CodeDance's claim: easy and hard prompts, up to three calls, written with care or without.

On easy prompts calls change nothing; on hard ones every call that works raises the chance of a right answer. A policy
decides turn by turn to answer, or to call with code that mostly works or with code that often fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Call, Observation, Score, Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.papers.codedance import balanced_reward, two_levels
from ferrule.rewards.outcome import outcome
from ferrule.studies.old import Condition, at_least, judged, over_seeds, scale_of
from ferrule.studies.paper import Claim

__all__ = ["ARMS", "SCALES", "constant_bonus", "evaluate", "measure", "play", "trained"]

MOST = 3
WORKS = (0.95, 0.6)
"""Chance that careful and careless code runs."""
CHANCES: Mapping[str, tuple[float, float]] = {"easy": (0.95, 0.0), "hard": (0.1, 0.22)}
"""Chance of a right answer without calls, and what every call that worked adds."""
SCALES: Mapping[str, int] = {"small": 250, "tiny": 8}
"""Training steps of each scale."""
RATE = 1.0


def constant_bonus(task: Task, trajectories: Sequence[Trajectory], *, bonus: float = 0.2) -> list[Score]:
    """The control: the outcome plus ``bonus`` for every call that worked, easy or hard."""
    return [
        Score(score.value + bonus * sum(o.status == "ok" for _, o in trajectory.calls), parts=score.parts)
        for score, trajectory in zip(outcome(task, trajectories), trajectories, strict=True)
    ]


ARMS: Mapping[str, Mapping[str, Any]] = {
    "outcome": {"reward": outcome},
    "bonus": {"reward": constant_bonus},
    "balanced, no turn term": {"reward": balanced_reward},
    "balanced": {"reward": balanced_reward, "credit": two_levels},
}
"""What each arm changes in the recipe."""


def _recipe(**changes: Any) -> Recipe:
    from ferrule.agents.react import ToolLoop
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    base = Recipe(ToolLoop(), outcome, partial(group_relative, std="unbiased"), surrogate, token_mean, samples=8)
    return vary(base, **changes)


def _start() -> FloatArray:
    """Return the first logits: answering and both ways of calling are equally likely; after three calls it answers."""
    logits = np.zeros((len(CHANCES) * (MOST + 1), 3))
    logits[MOST :: MOST + 1, 1:] = -30.0
    return logits


def play(task: Task, player: Any) -> Trajectory:
    """Play one episode: call until an answer is given."""
    row = list(CHANCES).index(task.id) * (MOST + 1)
    worked = 0
    for made in range(MOST + 1):
        action = player.decide(row + made)
        if action == 0 or made == MOST:
            break
        good = bool(player.rng.random() < WORKS[action - 1])
        worked += good
        seen = Observation("done", "ok") if good else Observation("failed", "error")
        player.turn(calls=[(Call("code", id=f"call_{made}"), seen)])
    alone, gain = CHANCES[task.id]
    right = player.rng.random() < alone + gain * worked
    return player.trajectory(task, "right" if right else "wrong")  # type: ignore[no-any-return]


def evaluate(chance_SA: FloatArray) -> dict[str, float]:
    """Return exact calls, failed calls per call, and accuracy of both kinds of prompts."""
    out: dict[str, float] = {}
    calls_all = failed_all = 0.0
    for k, (kind, (alone, gain)) in enumerate(CHANCES.items()):
        reach, calls, worked = 1.0, 0.0, 0.0
        for made in range(MOST):
            call_A = reach * chance_SA[k * (MOST + 1) + made, 1:]
            calls += float(call_A.sum())
            worked += float(call_A @ np.asarray(WORKS))
            reach = float(call_A.sum())
        out |= {f"calls {kind}": calls, f"accuracy {kind}": alone + gain * worked}
        calls_all, failed_all = calls_all + calls, failed_all + calls - worked
    out["failed share"] = failed_all / max(calls_all, 1e-9)
    return out


def trained(arm: str, *, seed: int, steps: int) -> dict[str, float]:
    """Train one arm and return the expected calls and accuracy per kind, and the failed share along the way."""
    from ferrule.studies.table import train_table

    tasks = [Task(kind, kind, answer="right") for kind in CHANCES]
    table = train_table(
        _recipe(**ARMS[arm]), play, tasks, _start(), steps=steps, learning_rate=RATE, seed=seed,
        watch=lambda step, chance_SA: evaluate(chance_SA),
    )  # fmt: skip
    along = [row["failed share"] for row in table.curve]
    return {**evaluate(table.chance_SA), "failed share, mean of training": float(np.mean(along))}


def _conditions(column: Any) -> list[Condition]:
    """Judge the arms; every difference is within a seed."""
    return [
        at_least(
            "calls on easy prompts, constant bonus minus balanced",
            (column("bonus", "calls easy") - column("balanced", "calls easy")).tolist(), 1.0,
        ),
        at_least(
            "accuracy on hard prompts, balanced minus constant bonus",
            (column("balanced", "accuracy hard") - column("bonus", "accuracy hard")).tolist(), -0.03,
        ),
        at_least(
            "failed share during training, without minus with the turn term",
            (column("balanced, no turn term", "failed share, mean of training")
             - column("balanced", "failed share, mean of training")).tolist(), 0.0,
        ),
    ]  # fmt: skip


def measure(scale: str, seeds: Sequence[int]) -> Claim:
    """Compare four rewards on the same prompts.

    Held when all hold by their 95 % intervals: on easy prompts the balanced reward calls at least once less than the
    constant bonus, its accuracy on hard ones is at most 3 points below, and failed calls fall faster with the turn
    term. ``scale`` is ``"small"`` (250 steps) or ``"tiny"`` (8, to try the machinery).
    """
    steps = scale_of(SCALES, scale)
    found = {arm: [trained(arm, seed=seed, steps=steps) for seed in seeds] for arm in ARMS}
    conditions = _conditions(lambda arm, name: np.asarray([row[name] for row in found[arm]]))
    notes = []
    for arm, rows in found.items():
        mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        notes.append(
            f"{arm}: calls {mean['calls easy']:.2f} (easy) and {mean['calls hard']:.2f} (hard), accuracy "
            f"{mean['accuracy easy']:.3f} and {mean['accuracy hard']:.3f}, failed share {mean['failed share']:.3f}"
        )
    return judged(
        conditions,
        paper="codedance",
        statement="Paying calls by difficulty keeps them on hard prompts and removes them from easy ones.",
        arms=over_seeds(found),
        falsifier="Easy prompts see less than one call fewer than with a constant bonus, or hard ones lose 3 points.",
        seeds=tuple(seeds),
        scale=scale,
        notes=notes,
        setup={
            "steps": steps, "samples": 8, "chances": dict(CHANCES), "works": WORKS, "rate": RATE,
        },
    )  # fmt: skip
