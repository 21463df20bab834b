"""Trees and independent trajectories of equal content train alike: credit, packed update, and weights afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tests.toys import layout, tiny_policy
from tests.train.pieces import LETTERS, draw, seeded

from ferrule.agents.react import ToolLoop
from ferrule.agents.tree import TreeLoop
from ferrule.core.arrays import pack
from ferrule.core.flows import Ask
from ferrule.core.recipe import Recipe
from ferrule.core.records import Message, Score, Task, Trajectory, Turn
from ferrule.credit.group import group_relative
from ferrule.credit.tree import first_visits, tree_relative
from ferrule.objectives.reduce import constant, sequence_mean, token_mean
from ferrule.objectives.surrogate import surrogate
from ferrule.policies.scripted import Scripted
from ferrule.train.sample import Batch, Group, credit, groups_of
from ferrule.train.update import sequences, update

pytestmark = pytest.mark.usefixtures("one_thread")

TASK = Task("t", "?")
TOTAL: Any = partial(constant, denominator=1.0)
CREDITS: dict[str, Any] = {
    "group": partial(group_relative, std="unbiased"),
    "tree": tree_relative,
    "tree, mean": partial(tree_relative, join="mean"),
}
REDUCES: dict[str, Any] = {
    "tokens": token_mean,
    "sequences": sequence_mean,
    "constant": partial(constant, denominator=16.0),
}


def recipe(**changes: Any) -> Recipe:
    base: dict[str, Any] = {
        "agent": ToolLoop(max_tokens=8),
        "reward": seeded,
        "credit": CREDITS["group"],
        "objective": surrogate,
        "reduce": token_mean,
        "num_generations": 4,
    }
    return Recipe(**{**base, **changes})


def step(number: int, parent: int | None, given: Sequence[int], sampled: Sequence[int]) -> Turn:
    logps = tuple(-0.1 * (1 + i % 7) for i in sampled)
    return Turn(number, parent, tuple(given), tuple(sampled), logps, Message("assistant", "x"))


def path(*turns: Turn, answer: str | None = "x") -> Trajectory:
    return Trajectory(TASK, turns, answer)


def batch(
    own: Recipe, rows: Sequence[Trajectory], rewards: Sequence[float], owners: Sequence[int], form: float = 0.0
) -> Batch:
    scores = tuple(Score(r, turns=(form,) * len(t.turns)) for r, t in zip(rewards, rows, strict=True))
    return credit(own, [Group(TASK, (), tuple(rows), scores, tuple(owners))], None)


def slope(own: Recipe, made: Batch, **how: Any) -> dict[str, torch.Tensor]:
    """Gradient of one packed update, read off a step of plain gradient descent."""
    policy = tiny_policy()
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    descent = torch.optim.SGD(policy.parameters(), lr=1.0)
    update(policy, sequences(made), own.objective, own.reduce, descent, max_grad_norm=0.0, **how)
    return {name: before[name] - p.detach() for name, p in policy.model.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(one[name], other[name], rtol=1e-3, atol=2e-6) for name in one)


def moves(found: dict[str, torch.Tensor]) -> bool:
    return any(float(g.abs().max()) > 1e-4 for g in found.values())


# ----------------------------------------------------------------------------------------------------------------- stars

STAR = [([5, 6, 7], [20, 21, 22]), ([5, 6, 7], [30, 31]), ([5, 6, 7], [40, 41, 42, 43])]


@pytest.mark.parametrize("reduce", REDUCES)
@pytest.mark.parametrize("rule", CREDITS)
def test_a_star_trains_like_independent_trajectories(rule: str, reduce: str) -> None:
    """Paths that share nothing: one episode with three roots, or three episodes."""
    own = recipe(credit=CREDITS[rule], reduce=REDUCES[reduce])
    star = [path(step(i, None, *content)) for i, content in enumerate(STAR)]
    alone = [path(step(0, None, *content)) for content in STAR]
    one, other = batch(own, star, [1, 0, 0.5], [0, 0, 0]), batch(own, alone, [1, 0, 0.5], [0, 1, 2])
    assert np.array_equal(one.adv, other.adv)
    found = slope(own, one)
    assert moves(found)
    assert same(found, slope(own, other))


def scripted() -> Scripted:
    """Four replies in a row, whoever asks for them."""
    said = iter(["alpha", "b", "gamma ray", "dd"])
    return Scripted(lambda request, sample: next(said), renderer=layout())


def test_a_played_star_is_a_played_group() -> None:
    """A tree of depth 1 and four samples of the loop write the same records, and train to the same weights."""
    tasks = draw(1)
    star = recipe(agent=TreeLoop(samples=4, depth=1, max_tokens=16), num_generations=1)
    plain = recipe(agent=ToolLoop(max_tokens=16))
    (grown,), (played,) = (groups_of(own, tasks, LETTERS, scripted()) for own in (star, plain))
    assert grown.owners == (0, 0, 0, 0)
    assert played.owners == (0, 1, 2, 3)
    content = [[(t.given, t.sampled) for t in p.turns] for p in grown.trajectories]
    assert content == [[(t.given, t.sampled) for t in p.turns] for p in played.trajectories]
    assert [s.value for s in grown.scores] == [s.value for s in played.scores]
    one, other = credit(star, [grown], None), credit(plain, [played], None)
    assert np.array_equal(one.adv, other.adv)
    found = slope(star, one)
    assert moves(found)
    assert same(found, slope(plain, other))


# ------------------------------------------------------------------------------------------------------------- prefixes

ROOT = step(0, None, [5, 6], [20, 21])
FORK = [step(1, 0, [7], [30, 31, 32]), step(2, 0, [7], [40]), step(3, 0, [8], [41, 42])]


@pytest.mark.parametrize("reduce", REDUCES)
def test_a_prefix_counted_once_per_path_trains_like_independent_trajectories(reduce: str) -> None:
    """Three paths share their first turn; as rows they are what three separate episodes would be."""
    own = recipe(reduce=REDUCES[reduce])
    tree = [path(ROOT, leaf) for leaf in FORK]
    alone = [path(replace(ROOT, id=0), replace(leaf, id=1)) for leaf in FORK]
    one, other = batch(own, tree, [1, 0, 0.2], [0, 0, 0]), batch(own, alone, [1, 0, 0.2], [0, 1, 2])
    assert np.array_equal(one.adv, other.adv)
    found = slope(own, one)
    assert moves(found)
    assert same(found, slope(own, other))
    assert same(found, slope(own, one, rows=1))


def test_a_prefix_in_the_loss_once() -> None:
    """With ``first_visits`` the shared turn has the gradient of one row; without it, of three."""
    once, often = (recipe(credit=tree_relative, mask=m, reduce=TOTAL) for m in (first_visits, None))
    tree = [*(path(ROOT, leaf) for leaf in FORK), path(step(4, None, [5, 6], [25]))]
    own, each = (batch(r, tree, [1, 0, 0.2, 0], [0] * 4) for r in (once, often))
    assert (own.signals.turn_NT >= 0).sum() == 2 + 3 + 1 + 2 + 1
    assert (each.signals.turn_NT >= 0).sum() == 3 * 2 + 3 + 1 + 2 + 1
    assert np.array_equal(own.signals.ids_NT, each.signals.ids_NT)
    mine = own.signals.turn_NT >= 0
    assert np.array_equal(own.adv[mine], each.adv[mine])
    found = slope(once, own)
    # By hand: of the second and third path the leaf alone.
    rows = np.arange(4)[:, None]
    first = (rows == 0) | (rows == 3) | (each.signals.turn_NT > 0)
    leaves = replace(each, signals=replace(each.signals, turn_NT=np.where(first, each.signals.turn_NT, -1)))
    assert same(found, slope(often, leaves))
    assert not same(found, slope(often, each))


def test_a_played_tree_trains_like_its_paths_played_apart() -> None:
    """Depth 3, with forks and discarded candidates: copies of the kept paths in episodes of their own train alike."""

    def speak(request: Ask, sample: int) -> Message:
        from ferrule.core.records import Call

        done = sum(m.role == "assistant" for m in request.messages)
        calls = (Call("write", {"line": f"{done}{sample}"}),) if done < 2 else ()
        return Message("assistant", f"step {done} sample {sample}", calls)

    own = recipe(agent=TreeLoop(samples=4, branch=2, depth=3, max_tokens=64), num_generations=1)
    (grown,) = groups_of(own, draw(1), LETTERS, Scripted(speak, renderer=layout()))
    assert len(grown.trajectories) == 4
    assert len(grown.episodes[0].trajectories) > 4
    copies = tuple(
        replace(p, turns=tuple(replace(t, id=k, parent=k - 1 if k else None) for k, t in enumerate(p.turns)))
        for p in grown.trajectories
    )
    apart = replace(grown, trajectories=copies, owners=(0, 1, 2, 3))
    one, other = credit(own, [grown], None), credit(replace(own, num_generations=4), [apart], None)
    assert len(np.unique(one.signals.node_NK)) < len(np.unique(other.signals.node_NK))
    found = slope(own, one)
    assert moves(found)
    assert same(found, slope(own, other))


# ----------------------------------------------------------------------------------------------------- what comes, comes


@pytest.mark.parametrize("mask", [None, first_visits])
@pytest.mark.parametrize("rule", CREDITS)
def test_unequal_groups_singletons_and_missing_turns(rule: str, mask: Any) -> None:
    """A tree of three, a lone path, a group with a path without turns and one without tokens, and an empty group."""
    own = recipe(credit=CREDITS[rule], mask=mask, num_generations=1)
    silent = step(1, None, [5, 6], [])
    rows = [
        [path(ROOT, leaf) for leaf in FORK],
        [path(ROOT)],
        [path(answer=None), path(silent), path(step(2, None, [5], [50, 51]), step(3, 2, [6], [52]))],
        [],
    ]
    groups = [
        Group(TASK, (), tuple(own_rows), tuple(Score(float(i)) for i, _ in enumerate(own_rows)), (0,) * len(own_rows))
        for own_rows in rows
    ]
    made = credit(own, groups, None)
    s = made.signals
    assert s.group_N.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert np.isfinite(made.adv).all()
    assert not made.adv[3].any()
    assert not made.adv[4:6].any()
    assert made.adv[6].any()
    assert not made.adv[s.turn_NT < 0].any()
    found = slope(own, made)
    assert moves(found)
    assert all(bool(torch.isfinite(g).all()) for g in found.values())
    assert same(found, slope(own, made, rows=2))


def test_a_group_trains_the_same_beside_any_other() -> None:
    """A lone path and a path without turns add nothing to the sum of the loss."""
    own = recipe(credit=tree_relative, mask=first_visits, num_generations=1, reduce=REDUCES["constant"])
    tree = Group(TASK, (), tuple(path(ROOT, leaf) for leaf in FORK), tuple(Score(r) for r in (1.0, 0, 0)), (0, 0, 0))
    lone = Group(TASK, (), (path(ROOT),), (Score(3.0),), (0,))
    alone, beside = credit(own, [tree], None), credit(own, [lone, tree], None)
    wider = {name: 4 / 3 * g for name, g in slope(own, beside).items()}  # the lone row enters the number of rows
    assert same(slope(own, alone), wider)


def test_turn_scores_may_be_missing() -> None:
    """Rows with fewer turn scores than turns have 0 for the rest."""
    rows = [path(ROOT, leaf) for leaf in FORK]
    scores = [Score(1.0, turns=(0.5, 0.5)), Score(0.0, turns=(0.5,)), Score(0.0)]
    found = pack(rows, scores, [0, 0, 0], episodes=[0, 0, 0])
    assert found.turn_reward_NK.tolist() == [[0.5, 0.5], [0.5, 0.0], [0.0, 0.0]]
