"""TIR recipe: Teaching Thinking Models to Reason with Tools, A Full-Pipeline Recipe (paper 01), May 2026.

https://arxiv.org/abs/2605.06326

A model that thinks well in text usually gets worse when it is merely offered a tool. The recipe is a pipeline of four
stages, each a function over data: choose teachers by how learnable their traces are and problems by what the tool adds;
filter traces; keep part of the data free of tools; stop supervised training where pass@k is high and rollouts are
short, whatever the loss says; then learn from rewards strictly on-policy with guards against collapse.

Departures from the paper:

1. All constants are choices: a quarter of text-only traces, a gain above 0, 32,000 tokens at most, checkpoints within
   half a point of the best pass@8.
2. How learnable a teacher is shows in what the student loses on that teacher's words, and in what a short supervised
   run adds to the student's pass@k; gains count as tied when they agree to one point.
3. A rollout that was cut off scores at most 0 and never has a positive advantage.
4. A batch serves one update, whose ratio is taken as 1: the gradient is that of the model that is trained, whatever
   probabilities the sampler gave. Sampling ahead of the update is the user's choice and off by default.
5. Entropy, call rate, truncation and drift of log-probs are watched by ``Health(bands=..., stop=True)``, which ends
   the run; going back to a checkpoint is up to the user. Routing replay is left out: no mixture of experts here.
6. The mask of the supervised loss is that of ``ferrule.data.formats``: what the model did not write carries none.
7. The claim trains a recurrent language model of some 20,000 parameters on additions; problems are chosen by rates
   that are measured on the student (without the tool) and on a scripted teacher (with it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ferrule.core.arrays import FloatArray, chain
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Reward, Score, Task, Trajectory
from ferrule.credit.keep import spread
from ferrule.papers.tir_recipe.stages import (
    Checkpoint,
    Trace,
    mixed,
    rank_teachers,
    refused,
    select_checkpoint,
    text_count,
    tool_advantage,
)
from ferrule.rewards.outcome import outcome
from ferrule.studies.paper import Claim, Paper
from ferrule.train.monitor import left_bands

__all__ = [
    "PAPER",
    "Checkpoint",
    "Trace",
    "claim",
    "left_bands",
    "mixed",
    "rank_teachers",
    "recipe",
    "refused",
    "select_checkpoint",
    "text_count",
    "tool_advantage",
    "uncut_credit",
    "uncut_reward",
]


def uncut_reward(task: Task, trajectories: Sequence[Trajectory], *, base: Reward = outcome) -> list[Score]:
    """Score by ``base``, at most 0 for rollouts that were cut off at a limit of tokens; part ``cut`` tells them."""
    scores = []
    for score, trajectory in zip(base(task, trajectories), trajectories, strict=True):
        cut = trajectory.finish == "length"
        value = min(score.value, 0.0) if cut else score.value
        scores.append(replace(score, value=value, parts={**score.parts, "cut": float(cut)}))
    return scores


def uncut_credit(adv_NT: FloatArray, parts_CN: FloatArray, channels: tuple[str, ...]) -> FloatArray:
    """Leave rows whose part ``cut`` is 1 no positive advantage: ``min(A, 0)``."""
    if "cut" not in channels:
        return adv_NT
    cut_N = parts_CN[channels.index("cut")] > 0.5
    return np.where(cut_N[:, None], np.minimum(adv_NT, 0.0), adv_NT)


def recipe(base: Recipe, *, refill: int = 0, keep: Callable[..., bool] | None = None) -> Recipe:
    """Return ``base`` on-policy (one step per batch, ratio 1), without groups of equal rewards and paid cut-offs."""
    from ferrule.objectives.surrogate import reinforce

    return vary(
        base,
        reward=partial(uncut_reward, base=base.reward),
        credit=chain(base.credit, uncut_credit),
        objective=reinforce,
        keep=spread(singletons=False) if keep is None else keep,
        refill=refill,
        reference=False,
        epochs=1,
        minibatches=1,
    )


def claim(scale: str = "small", *, seeds: Sequence[int] = (0, 1, 2)) -> Claim:
    """Measure what mixing, problem choice and the checkpoint rule do to a tiny model."""
    from ferrule.papers.tir_recipe.experiment import measure

    return measure(scale, seeds)


PAPER = Paper(
    number=1,
    slug="tir-recipe",
    title="Teaching Thinking Models to Reason with Tools: A Full-Pipeline Recipe for Tool-Integrated Reasoning",
    date="2026-05",
    url="https://arxiv.org/abs/2605.06326",
    pieces={
        "filter": refused,
        "mixing": mixed,
        "checkpoint": select_checkpoint,
        "reward": uncut_reward,
        "recipe": recipe,
    },
    claim=claim,
    summary="Tool-advantaged traces, text-only ones mixed in, checkpoints by pass@k and length, on-policy learning.",
)
