from __future__ import annotations

from typing import Any

import pytest

from ferrule.agents.react import ToolLoop
from ferrule.core.recipe import Recipe, vary
from ferrule.credit.group import group_relative
from ferrule.rewards.outcome import outcome


def recipe(**changes: Any) -> Recipe:
    base: dict[str, Any] = {
        "agent": ToolLoop(),
        "reward": outcome,
        "credit": group_relative,
        "objective": lambda logp_NT: -logp_NT,
        "reduce": lambda loss_NT, turn_NT, total: loss_NT.sum(),
    }
    return Recipe(**{**base, **changes})


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_generations", 0), ("num_iterations", 0), ("num_mini_batches", 0), ("refill", -1), ("temperature", 0.0)],
)
def test_values_that_no_run_could_use_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Recipe\.{field} is {value}"):
        recipe(**{field: value})


@pytest.mark.parametrize(
    "changes", [{"mini_batch_size": 0}, {"mini_batch_size": 8, "num_mini_batches": 2}, {"max_log_ratio": 0.0}]
)
def test_how_a_batch_is_cut_and_ended_is_checked(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"Recipe\.{next(iter(changes))} is"):
        recipe(**changes)
    assert recipe(mini_batch_size=8, max_log_ratio=20.0).num_mini_batches == 1


def test_refill_without_keep_would_do_nothing() -> None:
    with pytest.raises(ValueError, match="would do nothing"):
        recipe(refill=1)
    assert recipe(refill=1, keep=lambda trajectories, scores: True).refill == 1


def test_vary_changes_one_piece() -> None:
    assert vary(recipe(), num_generations=3).num_generations == 3


def test_vary_names_the_nearest_field() -> None:
    with pytest.raises(TypeError, match=r"no field 'num_generation'; did you mean 'num_generations'\?"):
        vary(recipe(), num_generation=3)


def test_vary_checks_the_result() -> None:
    with pytest.raises(ValueError, match="would do nothing"):
        vary(recipe(refill=1, keep=lambda trajectories, scores: True), keep=None)
