"""Invariant 4: rewards see the whole group, the step and named channels; credit takes whatever groups come.

Unequal groups, missing turns, singletons and zero spread leave finite advantages, zero off the model's tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from inspect import Parameter, signature
from typing import Any

import numpy as np
import pytest
from tests.contracts.checks import credit_rules
from tests.toys import WORLDS, Prober, layout, tiny_policy
from tests.train.pieces import LETTERS, Speller, draw, recipe

from ferrule.core.arrays import apply, chain
from ferrule.core.flows import Ask
from ferrule.core.records import Reply, Score, Task, Trajectory
from ferrule.credit.channels import normalise_then_sum, sum_then_normalise
from ferrule.credit.group import broadcast, group_relative, leave_one_out, whiten
from ferrule.credit.returns import gae, return_to_go, value_targets
from ferrule.policies.scripted import Scripted
from ferrule.train.sample import Batch, credit, groups_of, sample

pytestmark = pytest.mark.usefixtures("one_thread")

RULES: dict[str, Any] = {
    "grpo": partial(group_relative, std="unbiased"),
    "grpo, population": partial(group_relative, std="population"),
    "leave one out": leave_one_out,
    "reinforce++": chain(broadcast, whiten),
    "return to go": partial(return_to_go, baseline="turn"),
    "sum then normalise": sum_then_normalise(group_relative),
    "normalise then sum": normalise_then_sum(partial(group_relative, std="unbiased")),
}


def channels(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """A score with two parts and a value per turn; tasks with an odd number give everybody the same."""
    flat = task.id.endswith(("1", "3"))
    return [
        Score(
            0.5 if flat else float(i % 3),
            turns=() if flat else tuple(0.1 * k for k in range(len(t.turns))),
            parts={"a": 0.5 if flat else float(i % 2), "b": 0.25},
        )
        for i, t in enumerate(trajectories)
    ]


def talking(turns: int = 3) -> Any:
    """An agent whose episodes end after none, one, two or three turns, in an exception or without an answer."""

    def agent(task: Task, session: Any) -> Any:
        rest = (
            yield from Speller(turns=1, tokens=4)(task, session)
            if task.id.endswith("9")
            else Prober(turns)(task, session)
        )
        return rest

    def broken(task: Task, session: Any) -> Any:
        flow = agent(task, session)
        value = None
        for step in range(100):
            try:
                request = flow.send(value)
            except StopIteration as stop:
                return stop.value
            value = yield request
            if isinstance(request, Ask) and value[0].sampled[0] % 4 < step:
                raise RuntimeError("the agent gave up")

    return broken


def sampled(rule: Any, samples: int, policy: Any = None) -> Batch:
    """Four groups with trouble: agents that fail, ids that drift, equal rewards."""
    return sample(
        recipe(agent=talking(), reward=channels, credit=rule, num_generations=samples),
        draw,
        4,
        LETTERS,
        policy or drifting(),
        seed=samples,
    )


def drifting() -> Any:
    """A tiny model of whose samples some drift, so that groups become unequal."""
    policy = tiny_policy()
    generate = policy.generate

    def spoilt(asks: Sequence[Ask]) -> list[list[Reply]]:
        return [
            [replace(r, given=(9, *r.given[1:])) if ask.context and ask.seed % 3 == 0 else r for r in replies]
            for ask, replies in zip(asks, generate(asks), strict=True)
        ]

    policy.generate = spoilt  # type: ignore[method-assign]
    return policy


def sound(batch: Batch) -> None:
    s = batch.signals
    assert batch.adv.shape == s.turn_NT.shape
    assert np.isfinite(batch.adv).all()
    assert not batch.adv[s.turn_NT < 0].any()


@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("rule", RULES)
def test_invariant_04_every_rule_takes_unequal_groups_and_missing_turns(rule: str, samples: int) -> None:
    batch = sampled(RULES[rule], samples)
    sound(batch)
    s = batch.signals
    sizes = [len(g.trajectories) for g in batch.groups]
    if samples == 5:
        assert len(set(sizes)) > 1
        assert batch.drifted > 0
        assert len(set(s.turns_N.tolist())) > 1
        assert batch.adv.any()
    assert s.channels == ("a", "b")


@pytest.mark.parametrize("name", credit_rules("ferrule.credit"))
def test_invariant_04_every_rule_of_the_package_takes_a_real_batch(name: str) -> None:
    rule = credit_rules("ferrule.credit")[name]
    batch = sampled(group_relative, 5)
    rng = np.random.default_rng(0)
    more = {
        key: np.where(batch.signals.turn_NT >= 0, rng.normal(size=batch.signals.turn_NT.shape), 0.0)
        for key in ("value_NT", "ref_NT", "adv_NT")
    }
    needed = [p.name for p in signature(rule).parameters.values() if p.default is Parameter.empty]
    adv_NT = apply(rule, replace(batch.signals, **{k: v for k, v in more.items() if k in needed}))
    sound(replace(batch, adv=adv_NT))


def test_invariant_04_a_critic_takes_them_as_well() -> None:
    batch = sample(
        recipe(agent=talking(), reward=channels, credit=gae, critic=value_targets, num_generations=5),
        draw,
        4,
        LETTERS,
        drifting(),
    )
    sound(batch)
    assert batch.target_NT is not None
    assert np.isfinite(batch.target_NT).all()


@pytest.mark.parametrize("rule", ["grpo", "grpo, population", "leave one out", "return to go"])
def test_invariant_04_groups_without_spread_and_of_one_teach_nothing(rule: str) -> None:
    """Exact zeros, not small numbers: equal rewards in groups 1 and 3, and every group when it has one member."""
    batch = sampled(RULES[rule], 5)
    flat = np.isin(batch.signals.group_N, (1, 3))
    assert not batch.adv[flat].any()
    assert batch.adv[~flat].any()
    alone = sampled(RULES[rule], 1, tiny_policy())
    assert alone.signals.reward_N.any()
    assert not alone.adv.any()


def test_invariant_04_a_reward_sees_the_group_the_step_and_may_score_turns() -> None:
    seen = []
    world = WORLDS["arithmetic"]

    def reward(task: Task, trajectories: Sequence[Trajectory], step: int) -> list[Score]:
        seen.append((task.id, len(trajectories), step))
        return [Score(float(i), turns=(0.5,) * len(t.turns), parts={"a": 1.0}) for i, t in enumerate(trajectories)]

    policy = Scripted(lambda ask, sample: f"it is {ask.seed % 3}", renderer=layout())
    batch = sample(
        recipe(agent=Prober(), reward=reward, num_generations=3),
        lambda n: world.tasks("train", n),
        2,
        world,
        policy,
        step=7,
    )
    assert seen == [(t.id, 3, 7) for t in world.tasks("train", 2)]
    assert batch.signals.channels == ("a",)
    assert (batch.signals.turn_reward_NK == 0.5).all()


def test_invariant_04_eps_and_ddof_are_what_was_asked_for() -> None:
    """Rewards 0, 0, 1, 1: mean 1/2; spread sqrt(1/3) with n - 1 and 1/2 with n; A = 0.5 / (spread + eps)."""
    batch = groups_of(
        recipe(reward=lambda task, ts: [Score(v) for v in (0.0, 0.0, 1.0, 1.0)]), draw(1), LETTERS, tiny_policy()
    )
    for rule, expected in (
        (partial(group_relative, std="unbiased", eps=0.1), 0.5 / ((1 / 3) ** 0.5 + 0.1)),
        (partial(group_relative, std="population", eps=0.1), 0.5 / 0.6),
        (partial(group_relative, std="none"), 0.5),
    ):
        adv = credit(recipe(credit=rule), batch, None).adv
        assert sorted({round(x, 9) for x in adv.flatten() if x}) == pytest.approx([-expected, expected])


def test_invariant_04_no_groups_give_an_empty_batch() -> None:
    assert credit(recipe(), [], None).adv.size == 0
