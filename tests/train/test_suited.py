"""Defaults that suit: eight tasks a step, whatever the size of groups and batches, and a rate by the model's size."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.train.pieces import LETTERS, Speller, recipe

import ferrule as fe
from ferrule.core.recipe import Method
from ferrule.evaluate.run import Plan, execute
from ferrule.train.check import check
from ferrule.train.grpo import grpo
from ferrule.train.optimiser import optimiser_of
from ferrule.train.settings import Settings, rate
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
    left_open = Settings(per_device_train_batch_size=rows)
    settings = suited(policy(1000), grpo(num_generations=generations), left_open, processes=processes)
    assert settings.gradient_accumulation_steps == accumulated
    assert settings.samples(processes) >= 8 * generations
    assert settings.samples(processes) % generations == 0


def test_what_is_given_stays_and_stages_alone_keep_their_batch() -> None:
    given = Settings(learning_rate=0.5, gradient_accumulation_steps=1, max_steps=3)
    assert suited(policy(1000), grpo(), given) == given
    assert suited(policy(1000), sft([]), Settings()).gradient_accumulation_steps == 1
    assert suited(policy(1000), Method((sft([]), grpo(num_generations=4))), Settings()).samples() == 32


def test_what_a_part_sets_itself_counts() -> None:
    """Groups of 4 on 2 rows take 16 batches for 8 tasks, groups of 6 on 8 rows 6; 18 would be the least for both.

    A part's own number of batches is its own affair: without the first part, 6 are left.
    """
    fours = recipe(settings={"per_device_train_batch_size": 2})
    sixes = grpo(num_generations=6)
    assert suited(policy(1000), Method((fours, sixes)), Settings()).gradient_accumulation_steps == 18
    alone = fe.vary(fours, settings={**fours.settings, "gradient_accumulation_steps": 2})
    assert suited(policy(1000), Method((alone, sixes)), Settings()).gradient_accumulation_steps == 6


def test_python_with_bare_settings_trains_and_records_what_suits(tiny: Any, tmp_path: Path, one_thread: None) -> None:
    """Groups of 4 in batches of 8: 4 batches hold 8 tasks; the model has far less than 30 M parameters."""
    small, bare, shown = recipe(agent=Speller(tokens=1)), fe.Settings(max_steps=1), []
    fe.train(small, LETTERS, tiny, bare, None, show=shown.append)
    assert [(row["groups"], row["learning_rate"]) for row in shown] == [(8, 3e-4)]
    execute(Plan(tmp_path, tiny, LETTERS, small, bare), quiet=True)
    recorded = json.loads((tmp_path / "settings.json").read_text())
    assert (recorded["gradient_accumulation_steps"], recorded["learning_rate"]) == (4, 3e-4)
    (row,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (row["groups"], row["learning_rate"]) == (8, 3e-4)


def test_what_is_left_open_is_nowhere_taken_for_a_number(tiny: Any) -> None:
    with pytest.raises(ValueError, match="learning_rate is left open"):
        rate(Settings(), 0)
    with pytest.raises(ValueError, match="gradient_accumulation_steps is left open"):
        Settings().samples()
    assert check(grpo(num_generations=8), Settings()) == 8
    assert optimiser_of(tiny, Settings()).defaults["lr"] == 3e-4
