"""Every credit rule, reward, objective and reduction in the package keeps the promises of its kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from tests.contracts import checks, wrong

from ferrule.core.arrays import chain
from ferrule.core.records import Message, Task, Trajectory, Turn
from ferrule.credit.channels import normalise_then_sum, sum_then_normalise
from ferrule.credit.group import broadcast, group_relative, whiten
from ferrule.credit.kl import with_kl_reward
from ferrule.credit.returns import gae, return_to_go
from ferrule.objectives.penalty import add, kl_k2, with_entropy, with_kl
from ferrule.objectives.preference import dpo, ipo, kto, on_pairs, on_rows, orpo, simpo
from ferrule.objectives.reduce import constant, sequence_mean
from ferrule.objectives.supervised import nll_on_positives, value_loss
from ferrule.objectives.surrogate import reinforce, surrogate

PACKAGES = ("ferrule.credit", "ferrule.rewards", "ferrule.objectives", "ferrule.papers")
CREDIT = checks.credit_rules("ferrule.credit", "ferrule.papers")
REWARDS = checks.rewards(*PACKAGES)
OBJECTIVES = checks.objectives(*PACKAGES)
REDUCTIONS = checks.reductions(*PACKAGES)


def test_discovery_finds_the_basics() -> None:
    """An empty walk would pass every check below."""
    assert {"ferrule.credit.group:group_relative", "ferrule.credit.returns:gae"} <= set(CREDIT)
    assert {"ferrule.rewards.outcome:outcome", "ferrule.papers.otc:otc_reward"} <= set(REWARDS)
    assert {"ferrule.objectives.surrogate:surrogate", "ferrule.objectives.supervised:value_loss"} <= set(OBJECTIVES)
    assert {"ferrule.objectives.reduce:token_mean", "ferrule.objectives.reduce:constant"} <= set(REDUCTIONS)


@pytest.mark.parametrize("name", CREDIT)
def test_credit_rule(name: str) -> None:
    checks.check_credit(CREDIT[name])


SETTINGS: dict[str, Callable[..., Any]] = {
    "grpo": partial(group_relative, std="unbiased"),
    "population": partial(group_relative, std="population"),
    "loo-std": partial(group_relative, baseline="leave_one_out", std="unbiased"),
    "return to go, group": partial(return_to_go, baseline="group"),
    "sum then normalise": sum_then_normalise(group_relative),
    "normalise then sum": normalise_then_sum(partial(group_relative, std="unbiased")),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_credit_settings_keep_every_promise(name: str) -> None:
    checks.check_credit(SETTINGS[name])


POOLED: dict[str, Callable[..., Any]] = {
    "raw singleton": partial(group_relative, singleton="raw"),
    "reinforce++": chain(broadcast, whiten),
    "ppo": chain(gae, whiten),
    "gae with kl": with_kl_reward(gae, 0.1),
    "group with kl": with_kl_reward(group_relative, 0.1),
}


@pytest.mark.parametrize("name", POOLED)
def test_composed_credit(name: str) -> None:
    """Chains that use the whole batch, and penalties that tell equal rewards apart, keep all other promises."""

    def composed(signals: Any, ref_NT: Any) -> Any:
        from ferrule.core.arrays import apply

        return apply(POOLED[name], signals, ref_NT=ref_NT)

    composed.exempt = frozenset({"centred", "independent"})  # type: ignore[attr-defined]
    checks.check_credit(composed)


@pytest.mark.parametrize("name", REWARDS)
def test_reward(name: str) -> None:
    checks.check_reward(REWARDS[name])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective(name: str) -> None:
    checks.check_objective(OBJECTIVES[name])


VARIANTS: dict[str, Callable[..., Any]] = {
    "dual clip": partial(surrogate, dual=3.0),
    "reciprocal": partial(surrogate, reciprocal=True),
    "sequence ratio": partial(surrogate, ratio="sequence", lo=3e-4, hi=4e-4),
    "kl": with_kl(surrogate, 0.1),
    "kl k2": with_kl(reinforce, 0.1, estimator=kl_k2),
    "entropy": with_entropy(surrogate, 0.01),
    "imitation": add(surrogate, nll_on_positives, 0.1),
    "all": with_entropy(with_kl(add(surrogate, reinforce, 0.5), 0.1), 0.01),
    "value without clip": partial(value_loss, clip=None, half=True),
    "kto": on_rows(kto),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_objective_variant(name: str) -> None:
    checks.check_objective(VARIANTS[name], rows_apart=name != "kto")


@pytest.mark.parametrize(
    "loss", [dpo, partial(dpo, label_smoothing=0.1), ipo, simpo, orpo], ids=["dpo", "smooth", "ipo", "simpo", "orpo"]
)
def test_pair_objective(loss: Callable[..., Any]) -> None:
    checks.check_objective(on_pairs(loss), rows_apart=False)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction(name: str) -> None:
    checks.check_reduction(REDUCTIONS[name])


@pytest.mark.parametrize(
    "reduce", [partial(sequence_mean, tokens="sum"), partial(constant, denominator=3.0)], ids=["token sum", "constant"]
)
def test_reduction_variant(reduce: Callable[..., Any]) -> None:
    checks.check_reduction(reduce)


# ------------------------------------------------------------------------------------------ the suite catches the wrong


def test_the_sound_rule_passes() -> None:
    checks.check_credit(wrong.right)


@pytest.mark.parametrize("promise", wrong.CREDIT)
def test_wrong_credit_is_caught(promise: str) -> None:
    with pytest.raises(checks.Broken, match=f"^{re.escape(promise)}"):
        checks.check_credit(wrong.CREDIT[promise])


@pytest.mark.parametrize("promise", wrong.REWARDS)
def test_wrong_reward_is_caught(promise: str) -> None:
    with pytest.raises(checks.Broken, match=f"^{re.escape(promise)}"):
        checks.check_reward(wrong.REWARDS[promise])


def test_reward_that_needs_somebody_is_caught() -> None:
    """Its own exception on an empty group fails the test that calls the check."""
    with pytest.raises((ValueError, checks.Broken)):
        checks.check_reward(wrong.needs_somebody)


@pytest.mark.parametrize("promise", wrong.OBJECTIVES)
def test_wrong_objective_is_caught(promise: str) -> None:
    with pytest.raises(checks.Broken, match=f"^{re.escape(promise)}"):
        checks.check_objective(wrong.OBJECTIVES[promise])


@pytest.mark.parametrize("promise", wrong.REDUCTIONS)
def test_wrong_reduction_is_caught(promise: str) -> None:
    with pytest.raises(checks.Broken, match=f"^{re.escape(promise)}"):
        checks.check_reduction(wrong.REDUCTIONS[promise])


def test_ids_made_again_from_text_are_caught() -> None:
    """Turn 1 extends turn 0: the model saw (1, 2 | 3, 4 | 5) before it wrote (6, 7)."""
    reply = Message("assistant", "x")
    turns = (
        Turn(0, None, (1, 2), (3, 4), (-0.1, -0.2), reply),
        Turn(1, 0, (5,), (6, 7), (-0.3, -0.4), reply),
    )
    trajectory = Trajectory(Task("t", "p"), turns)
    seen = [((1, 2), (3, 4)), ((1, 2, 3, 4, 5), (6, 7))]
    checks.check_ids(trajectory, seen)
    with pytest.raises(checks.Broken, match="ids sampled"):
        checks.check_ids(wrong.tokenised_again(trajectory), seen)
    with pytest.raises(checks.Broken, match="ids given"):
        checks.check_ids(replace(trajectory, turns=(turns[0], replace(turns[1], given=(5, 5)))), seen)
