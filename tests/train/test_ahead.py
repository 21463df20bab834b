"""Sampling one step ahead: what is stale is weighed, what a checkpoint holds is enough, and off means off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.toys import tiny_policy
from tests.train.pieces import LETTERS, draw, recipe

from ferrule.train.ahead import corrected
from ferrule.train.loop import Settings, train
from ferrule.train.sample import sample

pytestmark = pytest.mark.usefixtures("one_thread")


def rows(folder: Path, policy: Any, **settings: Any) -> list[dict[str, Any]]:
    shown: list[Any] = []
    options = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "learning_rate": 1e-3, **settings}
    train(recipe(), LETTERS, policy, Settings(**options), folder, show=shown.append)
    return [row for row in shown if row["phase"] == "train"]


def test_weights_are_the_ratio_of_present_to_sampling_probability_up_to_the_cap() -> None:
    policy = tiny_policy()
    batch = sample(recipe(), draw, 2, LETTERS, policy)
    own = batch.signals.turn_NT >= 0
    same, none = corrected(batch, policy)
    assert np.allclose(same.adv[own], batch.adv[own], atol=1e-4)
    assert none["stale/kl"] == pytest.approx(0.0, abs=1e-4)
    with torch.no_grad():
        policy.model.lm_head.weight.mul_(1.3)
    moved, some = corrected(batch, policy, cap=1.5)
    present = moved.signals.logp_NT
    ratio = np.minimum(np.exp(present - batch.signals.logp_NT), 1.5)
    assert np.allclose(moved.adv[own], (batch.adv * ratio)[own], atol=1e-6)
    assert some["stale/capped"] == pytest.approx(float((ratio[own] >= 1.5).mean()))
    assert some["stale/kl"] == pytest.approx(float((batch.signals.logp_NT - present)[own].mean()), abs=1e-6)
    assert some["stale/kl"] != 0.0


def test_batches_are_one_step_behind_and_say_so(tmp_path: Path) -> None:
    """Step 1 is fresh; the batches of 2 and 3 were sampled with the weights before the update of the step before."""
    made = rows(tmp_path, tiny_policy(), max_steps=3, sample_ahead=1)
    assert [row["stale/steps"] for row in made] == [0.0, 1.0, 1.0]
    assert made[1]["stale/kl"] != 0.0
    plain = rows(tmp_path / "plain", tiny_policy(), max_steps=3)
    assert not any(name.startswith("stale/") for row in plain for name in row)
    assert made[0]["reward/mean"] == plain[0]["reward/mean"]


def test_a_resumed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    settings = {"max_steps": 4, "save_steps": 2, "sample_ahead": 1}
    whole, part = tiny_policy(), tiny_policy()
    made = rows(tmp_path / "whole", whole, **settings)
    assert [row["stale/steps"] for row in made] == [0.0, 1.0, 0.0, 1.0]
    rows(tmp_path / "part", part, **{**settings, "max_steps": 2})
    train(
        recipe(), LETTERS, part, Settings(per_device_train_batch_size=8, gradient_accumulation_steps=1, learning_rate=1e-3, **settings),
        tmp_path / "part", resume=True,
    )  # fmt: skip
    for one, other in zip(whole.parameters(), part.parameters(), strict=True):
        assert torch.equal(one, other)


def test_more_than_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match="valid: 0, 1"):
        Settings(sample_ahead=2)
