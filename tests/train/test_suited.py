"""Defaults that suit: eight tasks a step, whatever the size of groups and batches, and a rate by the model's size."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ferrule.core.recipe import Method
from ferrule.train.grpo import grpo
from ferrule.train.stage import sft
from ferrule.train.suited import learning_rate_for, suited


def policy(size: int, trained: int | None = None) -> Any:
    """A model of so many parameters (on the meta device: without memory), of which ``trained`` train."""
    whole = torch.nn.Linear(1, size, bias=False, device="meta")
    part = [torch.nn.Parameter(torch.empty(size if trained is None else trained, device="meta"))]
    return SimpleNamespace(model=whole, parameters=lambda: part)


@pytest.mark.parametrize(
    ("size", "trained", "rate"),
    [
        (4_000_000, None, 3e-4),
        (135_000_000, None, 1e-5),
        (7_000_000_000, None, 1e-6),
        (4_000_000, 100_000, 1e-3),  # ten times 3e-4, held at the most
        (135_000_000, 1_000_000, 1e-4),
    ],
)
def test_the_rate_falls_with_the_size_and_is_ten_times_as_high_for_adapters(
    size: int, trained: int | None, rate: float
) -> None:
    assert learning_rate_for(policy(size, trained)) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("generations", "rows", "processes", "accumulated"),
    [
        (8, 8, 1, 8),  # 64 samples
        (8, 16, 1, 4),
        (8, 8, 2, 4),
        (6, 8, 1, 6),  # whole groups of 6 in batches of 8: multiples of 24; 48 samples are 8 tasks
        (5, 8, 1, 5),  # 40 samples
        (16, 512, 1, 1),  # 32 tasks: one batch is the least
    ],
)
def test_a_step_holds_at_least_eight_tasks(generations: int, rows: int, processes: int, accumulated: int) -> None:
    settings = suited(
        policy(1000), grpo(num_generations=generations), processes=processes, per_device_train_batch_size=rows
    )
    assert settings.gradient_accumulation_steps == accumulated
    assert settings.samples(processes) >= 8 * generations
    assert settings.samples(processes) % generations == 0


def test_what_is_given_stays_and_stages_alone_keep_their_batch() -> None:
    settings = suited(policy(1000), grpo(), learning_rate=0.5, gradient_accumulation_steps=1, max_steps=3)
    assert (settings.learning_rate, settings.gradient_accumulation_steps, settings.max_steps) == (0.5, 1, 3)
    assert suited(policy(1000), sft([])).gradient_accumulation_steps == 1
    assert suited(policy(1000), Method((sft([]), grpo(num_generations=4)))).gradient_accumulation_steps == 4
