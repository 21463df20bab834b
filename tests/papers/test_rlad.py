"""RLAD: both rewards, two levels, a penalty on some rows, metrics."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.contracts.checks import check_reward
from tests.toys import Bench, layout, tiny_policy

from ferrule.agents.react import ToolLoop
from ferrule.core.arrays import apply, pack
from ferrule.core.flows import Ask
from ferrule.core.records import Message, Score, Task, Trajectory, Turn, plain_text
from ferrule.data.formats import Pair, trajectory_row
from ferrule.evaluate.metrics import pass_at_k
from ferrule.objectives.preference import dpo, rpo
from ferrule.papers import find, rlad
from ferrule.papers.claims import rlad as claim
from ferrule.policies.scripted import Scripted
from ferrule.train.grpo import grpo
from ferrule.train.levels import two_levels
from ferrule.train.loop import Settings, check
from ferrule.train.sample import credit, groups_of
from ferrule.train.stage import fit
from ferrule.train.stage import rpo as rpo_stage
from ferrule.train.update import sequences, update

TASK = Task("t", "?", answer="42", meta={"verifier": "numeric"})
WORLD = Bench(answer="42")


def solved(right: int, abstraction: str = "") -> Trajectory:
    task = replace(TASK, meta={**TASK.meta, **({"abstraction": abstraction} if abstraction else {})})
    turn = Turn(0, None, (1,), (2,), (-0.1,), Message("assistant", "x"))
    return Trajectory(task, (turn,), "42" if right else "7")


# ------------------------------------------------------------------------------------------------------ worked examples


def test_reward_of_an_abstraction() -> None:
    assert [rlad.abstraction_reward(row) for row in ([1, 0, 1, 1], [0] * 4, [1] * 4)] == [0.75, 0, 1]
    assert rlad.abstraction_reward([1, 1], leaking=True) == 0
    assert rlad.abstraction_reward([]) == 0


def test_reward_of_a_solution() -> None:
    rows = [solved(1, "z"), solved(0, "z"), solved(1), solved(1)]
    assert [s.value for s in rlad.solver_reward(TASK, rows)] == [1, 0, 0, 0]
    assert [s.parts for s in rlad.solver_reward(TASK, rows)] == [
        {"outcome": right, "unaided": alone} for right, alone in ((1, 0), (0, 0), (1, 1), (1, 1))
    ]
    assert [s.value for s in rlad.solver_reward(TASK, rows, unaided=True)] == [1, 0, 1, 1]
    assert rlad.solver_reward(TASK, []) == []


def test_advantages_and_dropped_groups() -> None:
    """1, 0, 0, 0: mean .25, unbiased std .5; (.75, -.25, -.25, -.25) / .500001."""
    recipe = rlad.recipe(grpo())
    rows = [solved(r, "z") for r in (1, 0, 0, 0)]
    found = pack(rows, rlad.solver_reward(TASK, rows), [0] * 4)
    adv = recipe.credit(found.reward_N, found.group_N, found.turn_NT)[:, -1]
    assert adv.tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-5)
    keep = recipe.keep
    assert keep is not None
    for values, kept in (((1, 1, 1), False), ((0, 0, 0), False), ((1, 0, 0, 0), True)):
        group = [solved(v, "z") for v in values]
        assert keep(group, recipe.reward(TASK, group)) is kept
    alone = [solved(1), solved(0)]
    assert keep(alone, recipe.reward(TASK, alone)) is True


def test_metrics() -> None:
    rows = [[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 0, 0]]
    assert rlad.with_abstraction(rows) == 0.375
    assert rlad.best_abstraction(rows) == 0.75


def test_allocation() -> None:
    """1 - .98^16 = .276; one right abstraction of four: 1 - .98^12 .4^4 = .980; 1 - C(12, 4) / C(16, 4) = .728."""
    assert rlad.solved_by([0.02], 16) == pytest.approx(0.276, abs=5e-4)
    assert rlad.solved_by([0.02, 0.6, 0.02, 0.02], 4) == pytest.approx(0.980, abs=5e-4)
    assert pass_at_k(16, 4, 4) == pytest.approx(0.728, abs=5e-4)


def test_unlucky_inputs() -> None:
    for empty in ([], [[]]):
        for metric in (rlad.with_abstraction, rlad.best_abstraction):
            with pytest.raises(ValueError, match="there must be an abstraction"):
                metric(empty)
    with pytest.raises(ValueError, match="finite"):
        rlad.abstraction_reward([math.nan, 1.0])
    assert rlad.abstraction_reward([1, 1, 0, 0], base=0.25) == 0.25


def test_rows_without_an_abstraction_are_compared_among_themselves() -> None:
    rows = [solved(1, "z"), solved(0, "z"), solved(1), solved(1)]
    signals = pack(rows, rlad.solver_reward(TASK, rows), [0] * 4)
    adv_NT = apply(rlad.recipe(grpo()).credit, signals)
    assert [float(row[turn >= 0][0]) for row, turn in zip(adv_NT, signals.turn_NT, strict=True)] == pytest.approx(
        [0.7071, -0.7071, 0, 0], abs=1e-4
    )


def test_rewards_keep_the_promises_of_their_kind() -> None:
    check_reward(rlad.solver_reward)


# ----------------------------------------------------------------------------------------------------------- two levels

HINTS = ("add", "The answer is 42", "", "guess")


def players(request: Ask, sample: int) -> Message:
    """Propose one of four texts by the seed; solve right with the hint to add in 3 of 4, else in 1 of 4."""
    if request.role == "proposer":
        return Message("assistant", HINTS[request.seed % 4])
    good = 3 if "\nadd\n" in plain_text(request.messages[-1]) else 1
    return Message("assistant", "42" if request.seed % 4 < good else "41")


def test_children_score_their_parents() -> None:
    solver = rlad.recipe(grpo(), num_generations=8)
    proposer = rlad.proposer_recipe(grpo(), num_generations=6)
    policies = {"solver": Scripted(players), "proposer": Scripted(players)}
    levels = two_levels(
        proposer, solver, WORLD.tasks("train", 4), WORLD, policies, hand_down=rlad.hand_down, hand_up=rlad.hand_up
    )
    assert [len(g.trajectories) for g in levels.parents] == [6] * 4
    assert all(t.turns[0].role == "proposer" for g in levels.parents for t in g.trajectories)
    mean: dict[str, list[float]] = {}
    for g in levels.parents:
        for trajectory, score in zip(g.trajectories, g.scores, strict=True):
            mean.setdefault(str(trajectory.answer), []).append(score.value)
    assert np.mean(mean["add"]) > np.mean(mean["guess"]) > 0
    assert set(mean["The answer is 42"]) == set(mean[""]) == {0.0}
    shown = [plain_text(t.turns[0].messages[-1]) for g in levels.children for t in g.trajectories]
    assert all("<abstraction>" in text for text in shown)
    assert len(levels.children) == sum(t.answer != "" for g in levels.parents for t in g.trajectories)


def test_roles_may_share_one_policy() -> None:
    args: Any = (rlad.proposer_recipe(grpo()), rlad.recipe(grpo()), WORLD.tasks("train", 2), WORLD)
    hands: Any = {"hand_down": rlad.hand_down, "hand_up": rlad.hand_up}
    shared = two_levels(*args, Scripted(players), **hands)
    apart = two_levels(*args, {"solver": Scripted(players), "proposer": Scripted(players)}, **hands)
    assert shared == apart


def test_a_problem_is_shown_once_however_often_it_is_handed_down() -> None:
    first = replace(solved(1), answer="use A")
    handed = rlad.hand_down(TASK, first)
    assert handed is not None
    assert handed.prompt.count("?") == 1
    assert handed.meta["abstraction"] == "use A"
    assert rlad.hand_down(TASK, replace(first, answer=None)) is None
    assert rlad.hand_down(TASK, replace(first, answer="  ")) is None


def test_the_method_plays_proposals_solutions_with_them_and_without() -> None:
    """4 proposals for each of 2 problems; solutions with each that says something, and a group without for each."""
    roles = rlad.method(grpo(), alternate=True)
    assert roles.alternate
    assert check(roles, Settings(per_device_train_batch_size=8)) == 2
    groups = roles.play(roles.recipes, WORLD.tasks("train", 2), WORLD, Scripted(players), step=0)
    said = [t.answer for group in groups["proposer"] for t in group.trajectories]
    assert len(said) == 8
    assert len(groups["solver"]) == sum(bool(text) for text in said) + 2
    unaided = [group for group in groups["solver"] if group.scores[0].parts["unaided"]]
    assert [score.value for group in unaided for score in group.scores] == [0.0] * 16


def test_rows_without_an_abstraction_carry_only_the_penalty() -> None:
    """The real update of a tiny model: without the penalty those rows leave the weights alone, with it they do not."""

    def moved(beta: float, unaided: bool) -> float:
        policy = tiny_policy()
        recipe = rlad.recipe(grpo(), num_generations=4, beta=beta)
        tasks = WORLD.tasks("train", 2)
        if not unaided:
            tasks = [replace(t, meta={"abstraction": "z"}) for t in tasks]
        said = Scripted(lambda ask, s: "42" if ask.seed % 2 else "41", renderer=layout())
        groups = groups_of(replace(recipe, agent=ToolLoop(turns=1)), tasks, WORLD, said)
        policy.keep_reference()
        with torch.no_grad():  # leave the reference, so that the penalty pulls
            for p in policy.parameters():
                p.mul_(1.05)
        before = [p.detach().clone() for p in policy.parameters()]
        batch = credit(recipe, groups, policy)
        optimiser = torch.optim.SGD(policy.parameters(), lr=0.01)
        update(policy, sequences(batch), recipe.objective, recipe.reduce, optimiser, rows=8)
        return sum(float((p.detach() - q).abs().sum()) for p, q in zip(policy.parameters(), before, strict=True))

    assert moved(0.0, unaided=True) == 0.0
    assert moved(0.05, unaided=True) > 0.0
    assert moved(0.0, unaided=False) == moved(0.05, unaided=False) > 0.0


def test_the_recipes_are_ones_that_can_train() -> None:
    for recipe in (rlad.recipe(grpo()), rlad.recipe(grpo(), beta=0.0), rlad.proposer_recipe(grpo())):
        assert check(recipe, Settings(per_device_train_batch_size=8)) == 8 // recipe.num_generations


def test_the_ablation_pays_rows_without_an_abstraction() -> None:
    rows = [solved(1), solved(0)]
    paid, unpaid = rlad.recipe(grpo(), unaided=True), rlad.recipe(grpo())
    assert [s.value for s in paid.reward(TASK, rows)] == [1, 0]
    assert [s.value for s in unpaid.reward(TASK, rows)] == [0, 0]


# ---------------------------------------------------------------------------------------------------- offline proposals


def test_preference_loss_with_a_likelihood_term() -> None:
    """Without the likelihood term it is DPO; with it the mean log-prob of the chosen row is taken off."""
    rows = {"chosen_P": [-2.0], "rejected_P": [-3.0], "ref_chosen_P": [-2.5], "ref_rejected_P": [-2.5]}
    tensors = {name: torch.tensor(values) for name, values in rows.items()}
    length = torch.tensor([4])
    plain = dpo(**tensors, beta=0.5)
    assert float(plain) == pytest.approx(math.log(1 + math.exp(-0.5)))
    assert torch.equal(rpo(**tensors, chosen_length_P=length, beta=0.5, alpha=0.0), plain)
    assert float(rpo(**tensors, chosen_length_P=length, beta=0.5)) == pytest.approx(float(plain) + 0.5)


def test_chosen_proposals_gain_likelihood() -> None:
    policy = tiny_policy()
    said = Scripted(players, renderer=layout())
    (group,) = groups_of(
        rlad.proposer_recipe(grpo(), num_generations=8), WORLD.tasks("train", 1), WORLD, {"proposer": said}
    )
    texts = {str(t.answer): trajectory_row(t) for t in group.trajectories}
    pair = Pair(texts["add"], texts["guess"])
    settings = Settings(max_steps=3, per_device_train_batch_size=1, learning_rate=0.01)
    losses = fit(policy, rpo_stage([pair]), settings)
    assert losses[-1] < losses[0]


def test_every_arm_samples_as_much() -> None:
    """Per step and task 8 solutions alone, 4 proposals of one decision, and 4 times 6 uses; or 34 solutions alone."""
    rows = [claim.arm(seed=1, steps=1, tasks=1, proposing=proposing) for proposing in (True, False)]
    assert [row["decisions"] for row in rows] == [2 * 8 + 4 + 2 * 24, 2 * 34]


def test_paper_is_found() -> None:
    assert find("rlad") is rlad.PAPER


def test_scores_of_groups_without_parts_use_values() -> None:
    levels = two_levels(
        rlad.proposer_recipe(grpo(), num_generations=2),
        replace(rlad.recipe(grpo(), num_generations=2), reward=lambda task, ts: [Score(0.5) for _ in ts]),
        WORLD.tasks("train", 1),
        WORLD,
        Scripted(lambda ask, s: "hint"),
        hand_down=rlad.hand_down,
        hand_up=rlad.hand_up,
    )
    assert [s.value for s in levels.parents[0].scores] == [0.5, 0.5]
