from __future__ import annotations

import math
from typing import Any

import pytest

from ferrule.train.settings import Settings, rate


def test_samples_of_a_step() -> None:
    settings = Settings(per_device_train_batch_size=4, gradient_accumulation_steps=3)
    assert (settings.samples(), settings.samples(2)) == (12, 24)


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        ("max_steps", 0, 1),
        ("per_device_train_batch_size", 0, 1),
        ("gradient_accumulation_steps", 0, 1),
        ("save_total_limit", 0, 1),
        ("learning_rate", -1.0, 0),
        ("warmup_steps", -1, 0),
        ("weight_decay", -0.1, 0),
        ("eval_steps", -1, 0),
        ("max_minutes", -1.0, 0),
        ("max_grad_norm", -1.0, 0),
    ],
)
def test_values_below_the_least_are_refused(name: str, value: Any, least: int) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}; the least is {least}"):
        Settings(**{name: value})


@pytest.mark.parametrize("name", ["learning_rate", "max_grad_norm", "weight_decay", "max_minutes", "adam_beta1"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_no_numbers_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        Settings(**{name: value})


@pytest.mark.parametrize("name", ["adam_beta1", "adam_beta2"])
def test_betas_lie_below_one(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 1.0; it must lie below 1"):
        Settings(**{name: 1.0})


def test_an_unknown_schedule_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"lr_scheduler_type is 'cosin'; did you mean 'cosine'\?"):
        Settings(lr_scheduler_type="cosin")


def test_the_constant_schedule_stays() -> None:
    assert [rate(Settings(max_steps=3, learning_rate=2.0), s) for s in range(3)] == [2.0, 2.0, 2.0]


def test_warm_up_rises_in_equal_steps() -> None:
    """4 warm-up steps to a rate of 8: 2, 4, 6, 8, and then the schedule from its top."""
    settings = Settings(max_steps=8, learning_rate=8.0, warmup_steps=4, lr_scheduler_type="linear")
    assert [rate(settings, s) for s in range(8)] == [2.0, 4.0, 6.0, 8.0, 8.0, 6.0, 4.0, 2.0]


def test_the_cosine_falls_from_the_top_to_nearly_nothing() -> None:
    """Of 4 steps: (1 - cos(pi left)) / 2 with left = 1, 3/4, 1/2, 1/4."""
    settings = Settings(max_steps=4, learning_rate=1.0, lr_scheduler_type="cosine")
    expected = [1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]
    assert [rate(settings, s) for s in range(4)] == pytest.approx(expected)


def test_the_last_step_still_moves() -> None:
    for kind in ("linear", "cosine"):
        assert rate(Settings(max_steps=7, learning_rate=1.0, lr_scheduler_type=kind), 6) > 0
