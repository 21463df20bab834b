"""The survey's catalogue: worked examples through the recipes, pairs, labels, Q targets, and the experiment's parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.contracts.checks import arrays, signals_of

from ferrule.core.arrays import apply, by_name
from ferrule.core.recipe import Recipe, Stage
from ferrule.core.records import Score
from ferrule.credit.group import group_relative
from ferrule.objectives.reduce import token_mean, totals
from ferrule.objectives.surrogate import surrogate
from ferrule.papers import rl_survey
from ferrule.rewards.outcome import outcome

BASE = Recipe(lambda task, session: iter(()), outcome, group_relative, surrogate, token_mean)  # type: ignore[arg-type,return-value]
ONLINE = (rl_survey.ppo, rl_survey.actor_critic, rl_survey.grpo, rl_survey.dapo, rl_survey.rloo, rl_survey.reinforce_pp)


@pytest.mark.parametrize("make", ONLINE)
def test_online_recipes_run_from_rewards_to_a_gradient(make: Callable[[Recipe], Recipe]) -> None:
    made = make(BASE)
    batch = signals_of([0, 1, 2, 3], [0, 0, 1, 1])
    adv = apply(made.credit, batch)
    assert adv.shape == batch.turn_NT.shape
    assert np.abs(adv).sum() > 0
    logp = torch.from_numpy(batch.logp_NT).requires_grad_(True)
    named: dict[str, Any] = {
        "logp_NT": logp,
        "old_NT": torch.from_numpy(batch.logp_NT),
        "adv_NT": torch.from_numpy(adv),
        "turn_NT": torch.from_numpy(batch.turn_NT),
    }
    if made.critic is not None:
        assert batch.value_NT is not None
        value = torch.from_numpy(batch.value_NT)
        named |= {"value_NT": value, "old_value_NT": value, "target_NT": torch.from_numpy(apply(made.critic, batch))}
    loss = made.reduce(by_name(made.objective, named), named["turn_NT"], totals(named["turn_NT"]))
    (slope,) = torch.autograd.grad(loss, logp)
    assert torch.isfinite(slope).all()
    assert slope.abs().sum() > 0


def test_methods_differ() -> None:
    """Ablation: on one batch no two credit rules of the catalogue agree."""
    batch = signals_of([0, 1, 2, 3], [0, 0, 1, 1])
    results = [
        apply(make(BASE).credit, batch)
        for make in (rl_survey.ppo, rl_survey.grpo, rl_survey.rloo, rl_survey.reinforce_pp)
    ]
    for i, one in enumerate(results):
        for other in results[:i]:
            assert not np.allclose(one, other)


@pytest.mark.parametrize("make", [rl_survey.dpo, rl_survey.kto])
def test_preference_stages_ask_for_a_reference(make: Callable[..., Stage]) -> None:
    stage = make([])
    assert stage.reference
    named = arrays()
    named["logp_NT"].requires_grad_(True)
    loss = stage.reduce(by_name(stage.objective, named), named["turn_NT"], totals(named["turn_NT"]))
    (slope,) = torch.autograd.grad(loss, named["logp_NT"])
    assert torch.isfinite(slope).all()
    assert slope.abs().sum() > 0


def test_dapo_drops_groups_without_spread() -> None:
    keep = rl_survey.dapo(BASE).keep
    assert keep is not None
    assert not keep((), [Score(1.0), Score(1.0)])
    assert not keep((), [])
    assert keep((), [Score(1.0), Score(0.0)])
    assert rl_survey.dapo(BASE).refill == 2


def test_recipe_of_the_module_is_grpo() -> None:
    assert rl_survey.recipe is rl_survey.grpo
