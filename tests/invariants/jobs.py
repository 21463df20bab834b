"""What one process and two processes do alike: sampling, single updates, and a short training run."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tests.toys import layout, tiny_policy
from tests.train.pieces import LETTERS, Speller, draw, recipe

from ferrule.objectives.reduce import constant, sequence_mean, token_mean
from ferrule.policies.scripted import nonsense
from ferrule.rollout.record import Episode, dump
from ferrule.train.loop import train
from ferrule.train.sample import Batch, sample
from ferrule.train.settings import Settings
from ferrule.train.update import sequences, update

REDUCTIONS: dict[str, Any] = {
    "token_mean": token_mean,
    "sequence_mean": sequence_mean,
    "sequence_sum": partial(sequence_mean, tokens="sum"),
    "constant": partial(constant, denominator=16.0),
}
RECIPE = recipe(agent=Speller(turns=2, tokens=5))


def policies() -> dict[str, Any]:
    """A policy without a model and one with."""
    return {"scripted": nonsense(3, renderer=layout()), "local": tiny_policy()}


def sampled(policy: Any, pool: Any = None) -> Batch:
    """Five groups: two processes get three and two of them."""
    return sample(RECIPE, draw, 5, LETTERS, policy, seed=11, step=2, pool=pool)


def lines(batch: Batch) -> list[str]:
    """The episodes of a batch as lines, without their wall-clock seconds."""
    return [dump(timeless(episode)) for group in batch.groups for episode in group.episodes]


def timeless(episode: Episode) -> Episode:
    """An episode without its wall-clock seconds."""
    spent = {role: replace(took, seconds=0.0) for role, took in episode.spent.items()}
    return replace(episode, seconds=0.0, spent=spent)


def updated(reduce: str, rows: int, pool: Any = None) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """The weights and metrics after one step of plain gradient descent on one batch of rows of unequal length."""
    batch = sampled(tiny_policy())
    policy = tiny_policy()
    optimiser = torch.optim.SGD(policy.parameters(), lr=1.0)
    found = update(
        policy,
        sequences(batch),
        RECIPE.objective,
        REDUCTIONS[reduce],
        optimiser,
        rows=rows,
        max_grad_norm=0.0,
        pool=pool,
    )
    return {n: p.detach().clone() for n, p in policy.model.named_parameters()}, found


def trained(folder: Path, pool: Any = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights after three steps of training with two epochs, minibatches, a critic-free recipe and a time limit."""
    from dataclasses import replace

    policy = tiny_policy()
    per_process = 8 if pool is not None else 16
    settings = Settings(
        max_steps=3,
        learning_rate=1e-2,
        per_device_train_batch_size=per_process,
        gradient_accumulation_steps=1,
        max_minutes=60.0,
        save_steps=2,
    )
    summary = train(replace(RECIPE, num_iterations=2, num_mini_batches=2), LETTERS, policy, settings, folder, pool=pool)
    return {n: p.detach().clone() for n, p in policy.model.named_parameters()}, summary
