"""Invariant 4: rewards see the whole group; credit takes unequal groups, missing turns, singletons and zero spread."""

from dataclasses import replace

import numpy as np
import pytest
from tests.toys import WORLDS, Prober, layout

from ferrule.cli.grpo import grpo
from ferrule.core.records import Score
from ferrule.credit.group import group_relative
from ferrule.credit.returns import return_to_go
from ferrule.policies.scripted import Scripted
from ferrule.train.sample import credit, groups_of, sample

WORLD = WORLDS["arithmetic"]


def talker() -> Scripted:
    return Scripted(lambda ask, sample: f"it is {ask.seed % 3}", renderer=layout())


def test_a_reward_sees_the_group_and_the_step() -> None:
    sizes = []

    def reward(task, trajectories, step):
        sizes.append((len(trajectories), step))
        return [Score(float(i), turns=(0.5,) * len(t.turns), parts={"a": 1.0}) for i, t in enumerate(trajectories)]

    recipe = replace(grpo(num_generations=3), agent=Prober(), reward=reward)
    batch = sample(recipe, lambda n: WORLD.tasks("train", n), 2, WORLD, talker(), step=7)
    assert sizes == [(3, 7), (3, 7)]
    assert batch.signals.channels == ("a",)
    assert (batch.signals.turn_reward_NK == 0.5).all()


@pytest.mark.parametrize("rule", [group_relative, return_to_go])
def test_unequal_groups_singletons_and_zero_spread_stay_finite(rule) -> None:
    recipe = replace(grpo(num_generations=3), agent=Prober(), credit=rule)
    made = groups_of(recipe, WORLD.tasks("train", 3), WORLD, talker(), seed=1)
    one = replace(made[0], trajectories=made[0].trajectories[:1], scores=(Score(1.0),), owners=(0,))
    same = replace(made[1], scores=(Score(0.5),) * 3)
    short = tuple(replace(t, turns=t.turns[: i + 1]) for i, t in enumerate(made[2].trajectories))
    uneven = replace(made[2], trajectories=short, scores=(Score(0.0), Score(1.0), Score(1.0)))
    batch = credit(recipe, [one, same, uneven], None)
    assert np.isfinite(batch.adv).all()
    assert not batch.adv[batch.signals.turn_NT < 0].any()
    if rule is group_relative:
        assert not batch.adv[:4].any()
        assert batch.adv[4:].any()


def test_no_groups_give_an_empty_batch() -> None:
    recipe = replace(grpo(num_generations=2), agent=Prober())
    assert credit(recipe, [], None).adv.size == 0
