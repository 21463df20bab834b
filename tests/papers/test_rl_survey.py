"""The survey's catalogue: worked examples through the recipes, pairs, labels, Q targets, and the experiment's parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.contracts.checks import arrays, signals_of

from ferrule.core.arrays import apply, by_name
from ferrule.core.recipe import Recipe
from ferrule.core.records import Score
from ferrule.credit.group import group_relative
from ferrule.objectives.preference import bradley_terry
from ferrule.objectives.reduce import token_mean, totals
from ferrule.objectives.surrogate import surrogate
from ferrule.papers import rl_survey
from ferrule.papers.rl_survey import arms, experiment, recipes
from ferrule.rewards.outcome import outcome

BASE = Recipe(lambda task, session: iter(()), outcome, group_relative, surrogate, token_mean)  # type: ignore[arg-type,return-value]
ONLINE = (recipes.ppo, recipes.actor_critic, recipes.grpo, recipes.dapo, recipes.rloo, recipes.reinforce_pp)


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
        apply(make(BASE).credit, batch) for make in (recipes.ppo, recipes.grpo, recipes.rloo, recipes.reinforce_pp)
    ]
    for i, one in enumerate(results):
        for other in results[:i]:
            assert not np.allclose(one, other)


@pytest.mark.parametrize("make", [recipes.dpo, recipes.kto])
def test_preference_recipes_ask_for_a_reference(make: Callable[[Recipe], Recipe]) -> None:
    made = make(BASE)
    assert made.reference
    named = arrays()
    named["logp_NT"].requires_grad_(True)
    loss = made.reduce(by_name(made.objective, named), named["turn_NT"], totals(named["turn_NT"]))
    (slope,) = torch.autograd.grad(loss, named["logp_NT"])
    assert torch.isfinite(slope).all()
    assert slope.abs().sum() > 0


def test_dapo_drops_groups_without_spread() -> None:
    keep = recipes.dapo(BASE).keep
    assert keep is not None
    assert not keep((), [Score(1.0), Score(1.0)])
    assert not keep((), [])
    assert keep((), [Score(1.0), Score(0.0)])
    assert recipes.dapo(BASE).refill == 2


def test_both_orders_cancel_a_leaning() -> None:
    """A labeller that says .8 for the better and adds .15 to what it reads first: both orders average to .8."""

    def labeller(first: int, second: int) -> float:
        return (0.8 if first > second else 0.2) + 0.15

    assert labeller(2, 1) == pytest.approx(0.95)
    assert rl_survey.ai_preference(labeller, 2, 1) == pytest.approx(0.8)
    assert rl_survey.ai_preference(labeller, 1, 2) == pytest.approx(0.2)


def test_direct_scores() -> None:
    assert [rl_survey.direct_score(m) for m in (1, 5.5, 10, 12)] == pytest.approx([-1, 0, 1, 1])


def test_soft_labels_in_the_pair_loss() -> None:
    """p = .8, scores 1 and 0: .8 log(1 + e^-1) + .2 log(1 + e) = .513262."""
    loss = bradley_terry(torch.tensor([1.0]), torch.tensor([0.0]), preference=torch.tensor([0.8]))
    assert loss.item() == pytest.approx(0.8 * np.log1p(np.exp(-1)) + 0.2 * np.log1p(np.e), abs=1e-6)


def test_verifier_pairs() -> None:
    """Group 0: .9 with 0, .5 with .1; group 1 is all equal; group 2 has one row."""
    reward = np.array([0.1, 0.9, 0.0, 0.5, 1.0, 1.0, 0.3])
    pair, chosen, rows = rl_survey.verifier_pairs(reward, np.array([0, 0, 0, 0, 1, 1, 2]))
    assert rows.tolist() == [1, 2, 3, 0]
    assert pair.tolist() == [0, 0, 1, 1]
    assert chosen.tolist() == [1, 0, 1, 0]


def test_q_targets_skip_observations() -> None:
    """Tokens at columns 0, 3, 4 of row 0: targets are max Q at 3, max Q at 4, and the reward."""
    turn = np.array([[0, -1, -1, 1, 1], [-1, 0, -1, -1, -1]])
    best = np.array([[9.0, 8.0, 7.0, 0.4, 0.6], [9.0, 9.0, 9.0, 9.0, 9.0]])
    targets = rl_survey.q_targets(np.array([1.0, 0.5]), turn, best, gamma=0.5)
    assert targets == pytest.approx(np.array([[0.2, 0, 0, 0.3, 1.0], [0, 0.5, 0, 0, 0]]))


def test_recipe_of_the_module_is_grpo() -> None:
    assert rl_survey.recipe is recipes.grpo


# ------------------------------------------------------------------------------------------------------- the experiment


def test_held_out_questions_are_never_drawn_for_training() -> None:
    rng = np.random.default_rng(0)
    train, _ = experiment.questions(2000, rng)
    test, _ = experiment.questions(2000, rng, held_out=True)
    pairs = [{tuple(row) for row in prompts[:, :2].tolist()} for prompts in (train, test)]
    assert not pairs[0] & pairs[1]
    assert (len(pairs[0]), len(pairs[1])) == (75, 25)


def test_episodes_are_recorded_as_the_model_saw_them() -> None:
    """Log-probs recorded while sampling equal those of one pass over the whole sequence; results follow calls."""
    torch.manual_seed(0)
    model = experiment.Model()
    prompts, answers = experiment.questions(64, np.random.default_rng(1))
    played = experiment.play(model, prompts, answers, torch.Generator().manual_seed(0))
    again = experiment.named(model, played.ids_NT, played.turn_NT)
    assert torch.allclose(again, played.logp_NT, atol=1e-5)
    for ids, turn, answer in zip(played.ids_NT.tolist(), played.turn_NT.tolist(), answers.tolist(), strict=True):
        for t in range(3, len(ids) - 1):
            if ids[t] == experiment.CALL and turn[t] >= 0 and ids[t + 1] >= 0:
                assert (ids[t + 1], turn[t + 1]) == (experiment.RESULT + answer, -1)
    assert played.calls_N.sum() > 0


def test_reward_model_prefers_right_answers() -> None:
    torch.manual_seed(0)
    budget = experiment.Budget(80, 40, 100)
    start = experiment.supervised(budget, 0)
    stored = arms.stored_episodes(start, budget, 0)
    reward = arms.learn_reward_model(stored, 0)
    fresh = arms.stored_episodes(start, replace(budget, steps=3), 1)
    score = np.concatenate([reward(played) for played in fresh])
    right = np.concatenate([played.right_N for played in fresh])
    assert score[right == 1].mean() > score[right == 0].mean() + 0.1


@pytest.mark.slow
def test_claim_runs_and_repeats() -> None:
    claim = rl_survey.claim("tiny", seeds=(0, 1, 2))
    assert {"ppo", "grpo", "rloo", "q_learning", "dpo", "flawed_ppo_kl"} <= set(claim.arms)
    again = rl_survey.measure("tiny", 1)
    assert {arm: row["success"] for arm, row in again.items()} == {
        a: rows["success"][1] for a, rows in claim.arms.items()
    }
    assert claim.verdict in ("held", "not held", "undecided")
    with pytest.raises(ValueError, match="known: small, tiny"):
        rl_survey.claim("big")
