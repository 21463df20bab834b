"""The experiment behind OTC's claim: a table of how many calls to make, trained with and without the coefficient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray, apply, pack
from ferrule.core.records import Call, Message, Observation, Reward, Score, Task, Trajectory, Turn
from ferrule.credit.group import group_relative
from ferrule.online.tabular import softmax
from ferrule.papers.otc import coefficient_alone, otc_reward
from ferrule.rewards.efficiency import call_cost, calls_per_success, productivity
from ferrule.rewards.outcome import outcome
from ferrule.studies.conditions import at_least, judged, over_seeds, scale_of
from ferrule.studies.paper import Claim

__all__ = ["ARMS", "KINDS", "MOST", "additive_reward", "conditions_of", "measure", "train_table"]

MOST = 6
KINDS: Mapping[str, tuple[float, ...]] = {
    "easy": (0.95,) * (MOST + 1),
    "hard": (0.05, 0.25, 0.90, 0.92, 0.92, 0.92, 0.92),
    "unsolvable": (0.0,) * (MOST + 1),
}
"""Chance of a right answer after 0 to 6 calls, for each kind of question of the claim."""


def additive_reward(
    task: Task, trajectories: Sequence[Trajectory], *, base: Reward = outcome, weight: float = 0.5, c: float = 4.0
) -> list[Score]:
    """Control: add the efficiency instead of multiplying, ``r0 + weight * coefficient_alone(m)``; frugal errors pay."""
    return [
        Score(value=score.value + weight * coefficient_alone(call_cost(trajectory), c=c), parts=score.parts)
        for trajectory, score in zip(trajectories, base(task, trajectories), strict=True)
    ]


def _played(task: Task, calls: int, right: bool, logp: float) -> Trajectory:
    """Record an episode of one sampled decision: how many calls to make before answering."""
    made = tuple(Call("lookup", id=f"call_{i}") for i in range(calls))
    reply = Message("assistant", calls=made)
    observations = tuple(Observation("found") for _ in made)
    turn = Turn(0, None, (), (calls,), (logp,), reply, observations=observations)
    return Trajectory(task, (turn,), answer="right" if right else "wrong")


def train_table(
    *, reward: Reward, seed: int, steps: int = 400, samples: int = 8, learning_rate: float = 0.5, spread: float = 2.0
) -> FloatArray:
    """Train a softmax over 0 to 6 calls per kind of question by GRPO and return its probabilities ``[kind, calls]``.

    The start is a bell of standard deviation ``spread`` around 4 calls, cut off at the ends. Every step draws one
    group of ``samples`` episodes per kind, scores them with ``reward``, and takes one gradient step on the clipped
    surrogate with group-relative advantages (unbiased std). Needs torch.
    """
    import torch

    from ferrule.objectives.reduce import token_mean, totals
    from ferrule.objectives.surrogate import surrogate

    rng = np.random.default_rng(seed)
    tasks = [Task(id=kind, prompt=kind, answer="right") for kind in KINDS]
    first = -0.5 * ((np.arange(MOST + 1) - 4) / spread) ** 2.0
    logits = torch.tensor(np.tile(first, (len(tasks), 1)), requires_grad=True)
    rows = torch.arange(len(tasks)).repeat_interleave(samples)
    for _ in range(steps):
        chance = softmax(logits.detach().numpy())
        trajectories: list[Trajectory] = []
        scores: list[Score] = []
        for k, task in enumerate(tasks):
            drawn = rng.choice(MOST + 1, size=samples, p=chance[k])
            right = rng.random(samples) < np.asarray(KINDS[task.id])[drawn]
            group = [_played(task, int(m), bool(r), math.log(chance[k, m])) for m, r in zip(drawn, right, strict=True)]
            trajectories += group
            scores += reward(task, group)
        signals = pack(trajectories, scores, rows.tolist())
        adv_NT = torch.from_numpy(apply(partial(group_relative, std="unbiased"), signals))
        turn_NT, old_NT = torch.from_numpy(signals.turn_NT), torch.from_numpy(signals.logp_NT)
        logp_NT = logits.log_softmax(-1)[rows].gather(1, torch.from_numpy(signals.ids_NT))
        loss = token_mean(surrogate(logp_NT, old_NT, adv_NT, turn_NT), turn_NT, totals(turn_NT))
        (slope,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= learning_rate * len(tasks) * slope
    return softmax(logits.detach().numpy())


def measure(chance: FloatArray) -> dict[str, float]:
    """Expected accuracy and calls of a trained table: per kind, and over the solvable kinds together."""
    calls = chance @ np.arange(MOST + 1)
    right = [float(row @ np.asarray(KINDS[kind])) for kind, row in zip(KINDS, chance, strict=True)]
    out = {f"calls_{kind}": float(calls[k]) for k, kind in enumerate(KINDS)}
    out |= {f"accuracy_{kind}": right[k] for k, kind in enumerate(KINDS)}
    out["accuracy"] = float(np.mean(right[:2]))
    out["calls"] = float(np.mean(calls[:2]))
    out["calls_per_solved"] = calls_per_success(right[:2], calls[:2].tolist())
    out["productivity"] = productivity(right[:2], calls[:2].tolist())
    return out


ARMS: Mapping[str, Mapping[str, Any]] = {
    "grpo": {"reward": outcome},
    "otc": {"reward": otc_reward},
    "additive": {"reward": additive_reward},
    "otc_narrow": {"reward": otc_reward, "spread": 1.0},
}
"""Arms of the claim: settings of ``train_table``."""


def conditions_of(scale: str, seeds: Sequence[int]) -> Claim:
    """Measure whether OTC spends fewer calls per solved question than plain GRPO at equal success.

    Held when all of these hold by their 95 % intervals: calls per solved question fall by at least 40 %; accuracy
    falls by at most 2 points, overall and on hard questions; hard questions settle within half a call of their
    minimum of 2; the additive control cuts calls by at least one more on questions it never solves. ``scale`` is
    ``"small"`` (400 steps) or ``"tiny"`` (40, to try the machinery).
    """
    steps = scale_of({"small": 400, "tiny": 40}, scale)
    measured = {
        arm: [measure(train_table(seed=seed, steps=steps, **settings)) for seed in seeds]
        for arm, settings in ARMS.items()
    }
    paired = list(zip(measured["grpo"], measured["otc"], measured["additive"], strict=True))
    conditions = [
        at_least(
            "relative fall in calls per solved question",
            [1 - otc["calls_per_solved"] / plain["calls_per_solved"] for plain, otc, _ in paired],
            0.40,
        ),
        at_least("accuracy, OTC minus GRPO", [otc["accuracy"] - plain["accuracy"] for plain, otc, _ in paired], -0.02),
        at_least(
            "accuracy on hard questions, OTC minus GRPO",
            [otc["accuracy_hard"] - plain["accuracy_hard"] for plain, otc, _ in paired],
            -0.02,
        ),
        at_least(
            "hard questions: half a call less the distance from the minimum of 2",
            [0.5 - abs(otc["calls_hard"] - 2) for _, otc, _ in paired],
            0.0,
        ),
        at_least(
            "calls on unsolvable questions, OTC minus additive control",
            [otc["calls_unsolvable"] - added["calls_unsolvable"] for _, otc, added in paired],
            1.0,
        ),
    ]
    return judged(
        conditions,
        paper="otc",
        statement="Scaling the reward by call efficiency cuts calls per solved question at equal success.",
        arms=over_seeds(measured),
        falsifier="Hard-question accuracy falls by more than 2 points, or calls stop falling below plain GRPO.",
        seeds=tuple(seeds),
        scale=scale,
        setup={"steps": steps, "samples": 8, "kinds": {kind: list(row) for kind, row in KINDS.items()}},
    )
