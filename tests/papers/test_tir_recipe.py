"""The recipe: checkpoints, teachers, rewards and credit of cut rollouts, the method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tests.contracts.checks import check_credit, check_reward

from ferrule.core.arrays import apply, by_name, pack
from ferrule.core.recipe import Drawn, Recipe, Stage, vary
from ferrule.core.records import Message, Score, Task, Trajectory, Turn
from ferrule.data.filters import Trace
from ferrule.data.formats import Row
from ferrule.papers import find, tir_recipe
from ferrule.papers.claims import tir_recipe as claim
from ferrule.papers.tir_recipe import Checkpoint
from ferrule.policies.named import load
from ferrule.studies.standins import additions
from ferrule.train.grpo import grpo
from ferrule.train.loop import Settings, check
from ferrule.train.monitor import Monitor
from ferrule.worlds.arithmetic import Arithmetic

ROWS = [
    Checkpoint(100, 0.710, 9000, 0.52),
    Checkpoint(200, 0.780, 11000, 0.47),
    Checkpoint(300, 0.777, 10200, 0.43),
    Checkpoint(400, 0.740, 15000, 0.39),
]


def test_checkpoint_is_not_the_lowest_loss() -> None:
    """300 lies within half a point of the best and is shorter; without tolerance the best wins."""
    assert tir_recipe.select_checkpoint(ROWS).step == 300
    assert tir_recipe.select_checkpoint(ROWS, tol=0.0).step == 200
    assert tir_recipe.select_checkpoint([Checkpoint(9, 0.5, 10), Checkpoint(3, 0.5, 10)]).step == 3
    assert tir_recipe.select_checkpoint([Checkpoint(1, 0.780, 9), Checkpoint(2, 0.785, 10)]).step == 1
    diverged = [Checkpoint(1, math.nan, 10), Checkpoint(2, 0.5, 10), Checkpoint(3, 0.5, math.nan)]
    assert tir_recipe.select_checkpoint(diverged).step == 2
    for none in ([], diverged[:1]):
        with pytest.raises(ValueError, match="finite"):
            tir_recipe.select_checkpoint(none)


def test_teachers_by_gain_then_by_likelihood() -> None:
    measured = {"strong": (0.104, 1.9), "plain": (0.101, 0.8), "weak": (0.02, 0.1)}
    assert tir_recipe.rank_teachers(measured) == ["plain", "strong", "weak"]
    assert tir_recipe.rank_teachers(measured, digits=3) == ["strong", "plain", "weak"]
    with pytest.raises(ValueError, match="of lost is NaN"):
        tir_recipe.rank_teachers({**measured, "lost": (math.nan, 0.1)})


def ended(finish: Any, answer: str | None) -> Trajectory:
    return Trajectory(TASK, (Turn(0, None, (1,), (2,), (-0.1,), Message("assistant", "4")),), answer, finish)


TASK = Task("t", "?", answer="4")


def test_cut_rollouts_earn_nothing() -> None:
    group = [ended("answer", "4"), ended("length", "4"), ended("length", None)]
    scores = tir_recipe.uncut_reward(TASK, group)
    assert [s.value for s in scores] == [1, 0, 0]
    assert [s.parts["cut"] for s in scores] == [0, 1, 1]

    def signed(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        return [Score(-1.0) for _ in trajectories]

    assert [s.value for s in tir_recipe.uncut_reward(TASK, group, base=signed)] == [-1, -1, -1]


def test_cut_rollouts_never_have_a_positive_advantage() -> None:
    """Rewards -1, -1 and, capped, 0: the cut row lies above its group and still gets nothing."""
    scores = [Score(-1.0, parts={"cut": 0.0}), Score(-1.0, parts={"cut": 0.0}), Score(0.0, parts={"cut": 1.0})]
    signals = pack([ended("answer", "3"), ended("answer", "3"), ended("length", "4")], scores, [0, 0, 0])
    adv_NT = apply(tir_recipe.recipe(grpo()).credit, signals)
    assert apply(grpo().credit, signals)[2].max() > 1
    assert not adv_NT[2].any()
    assert (adv_NT[:2][signals.turn_NT[:2] >= 0] < 0).all()
    check_credit(tir_recipe.recipe(grpo()).credit)


def test_the_ratio_is_one() -> None:
    """Whatever the sampler's probabilities were, the gradient is that of the advantage times log p."""
    logp = torch.full((1, 2), -1.0, requires_grad=True)
    known = {"logp_NT": logp, "old_NT": logp.detach() - 0.3, "adv_NT": torch.ones(1, 2), "turn_NT": torch.zeros(1, 2)}
    by_name(tir_recipe.recipe(grpo()).objective, known).sum().backward()
    assert logp.grad is not None
    assert logp.grad.tolist() == [[-1, -1]]


def test_reward_keeps_its_promises() -> None:
    check_reward(tir_recipe.uncut_reward)


def test_recipe_is_on_policy() -> None:
    changed = tir_recipe.recipe(grpo(num_iterations=4))
    assert (changed.num_iterations, changed.num_mini_batches) == (1, 1)
    assert check(changed, Settings(per_device_train_batch_size=8, gradient_accumulation_steps=1)) == 1
    keep: Any = changed.keep
    assert not keep([], [Score(1.0), Score(1.0)])
    assert keep([], [Score(1.0), Score(0.0)])
    assert not keep([], [Score(1.0)])


def test_paper_is_found() -> None:
    assert find("tir-recipe") is tir_recipe.PAPER


def test_random_problems_are_an_arm_that_differs() -> None:
    torch.manual_seed(0)
    rows = claim.traces(additions.student(), 24, 100)
    assert set(rows) == {claim.TOOL, claim.MIXED, claim.RANDOM}
    text = {name: np.mean([row.ids[0] == additions.PLAIN for row in chosen]) for name, chosen in rows.items()}
    assert text[claim.TOOL] == 0
    assert text[claim.MIXED] == pytest.approx(0.25, abs=0.05)
    assert text[claim.RANDOM] > 0
    assert rows[claim.MIXED] != rows[claim.RANDOM]


def test_the_method_tunes_on_what_is_not_refused_and_then_learns_from_rewards() -> None:
    """Of 4 traces one is refused; a quarter of text beside 3 is 1 row. The second part is the recipe."""
    rows = [Row((i,), (0,)) for i in range(5)]
    good, useless = Trace(0.75, 0.25, 10, True, 1), Trace(0.5, 0.5, 10, True, 1)
    traces = list(zip((good, useless, good, good), rows, strict=False))
    first, second = tir_recipe.method(grpo(), traces, rows[4:], max_steps=7).stages
    assert isinstance(first, Stage)
    assert sorted(row.ids[0] for row in first.data(None, 0)) == [0, 2, 3, 4]
    assert first.settings == {"max_steps": 7}
    assert isinstance(second, Recipe)
    assert (second.num_iterations, second.objective) == (1, tir_recipe.recipe(grpo()).objective)
    with pytest.raises(ValueError, match="all 4 traces are refused"):
        tir_recipe.method(grpo(), traces, rows, least_gain=0.9)


@pytest.mark.parametrize("solved", [None, 0.0, 1.0])
def test_the_pipeline_learns_where_the_tool_helps_and_from_a_share_of_text(solved: float | None) -> None:
    """Solutions call the tool and so have two turns, text has one; a quarter of text is a third as many rows.

    Where all is solved without tools nothing is learned, where nothing is, every solution and no text.
    """

    def pays(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        return [Score(0.0 if solved is None else solved) for _ in trajectories]

    base = grpo(num_generations=2, max_completion_length=16)
    base = base if solved is None else vary(base, reward=pays)
    first, second = tir_recipe.pipeline(base, Arithmetic(), tasks=4, levels=(1, 2), seed=0, budget=240).stages
    assert isinstance(first, Stage)
    assert isinstance(second, Recipe)
    drawn = first.data(load("pocket"), 0)
    assert isinstance(drawn, Drawn)
    assert drawn.sampled >= 240 / 4
    turns = [max(row.turn) + 1 for row in drawn.items]
    tool, text = turns.count(2), turns.count(1)
    assert tool + text == len(turns)
    if solved is None:
        assert text == round(tool / 3) > 0
    else:
        assert (tool > 0, tool % 4, text) == (not solved, 0, 0)


GOOD = {"loss": 0.1, "grad_norm": 1.0, "calls/mean": 2.0, "malformed/share": 0.0, "entropy": 0.5,
        "groups/zero_spread": 0.2, "drifted": 0.0, "cut_off/share": 0.1, "kl": 0.001}  # fmt: skip


@pytest.mark.parametrize(
    ("left", "said"),
    [({"entropy": 0.001}, "entropy is"), ({"calls/mean": 0.3}, "calls per task fell"),
     ({"cut_off/share": 0.6}, "cut_off/share is 0.6"), ({"kl": -0.06}, "kl is -0.06")],
)  # fmt: skip
def test_guards_watch_entropy_calls_truncation_and_drift(left: dict[str, float], said: str) -> None:
    """After two good steps each guard alone is left in two: calls fall from 2 to .3, below a fifth of 2."""
    monitor = Monitor(tir_recipe.guards(window=2))
    assert [monitor.check(GOOD), monitor.check(GOOD)] == [[], []]
    told = [*monitor.check({**GOOD, **left}), *monitor.check({**GOOD, **left})]
    assert any(text.startswith(said) for text in told), told
    assert (tir_recipe.guards().rollbacks, tir_recipe.guards().stop) == (2, True)
