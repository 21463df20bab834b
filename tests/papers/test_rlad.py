"""RLAD: both rewards, two levels, a penalty on some rows, metrics."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.contracts.checks import check_reward
from tests.toys import Bench, layout, tiny_policy
from tests.train.pieces import Speller

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
from ferrule.train.loop import Settings, check, train
from ferrule.train.sample import Group, credit, groups_of
from ferrule.train.stage import fit
from ferrule.train.stage import rpo as rpo_stage
from ferrule.train.update import sequences, update
from ferrule.worlds.arithmetic import Arithmetic

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
    assert check(roles, Settings(per_device_train_batch_size=8, gradient_accumulation_steps=1)) == 2
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
        assert (
            check(recipe, Settings(per_device_train_batch_size=8, gradient_accumulation_steps=1))
            == 8 // recipe.num_generations
        )


def test_the_ablation_pays_rows_without_an_abstraction() -> None:
    rows = [solved(1), solved(0)]
    paid, unpaid = rlad.recipe(grpo(), unaided=True), rlad.recipe(grpo())
    assert [s.value for s in paid.reward(TASK, rows)] == [1, 0]
    assert [s.value for s in unpaid.reward(TASK, rows)] == [0, 0]


# ------------------------------------------------------------------------------------------------- start, and in turns


def solutions(*right: int) -> list[float]:
    return [float(r) for r in right]


def test_abstractions_to_start_from_raise_a_solver_and_do_not_leak() -> None:
    """Success .2, .5, .1, .3 against .25 alone keeps the second and the fourth; one that leaks is worth 0."""
    tries = [[1.0] * n + [0.0] * (10 - n) for n in (2, 5, 1, 3, 9)]
    texts = ["a", "b", "c", "d", "it is 42"]
    assert rlad.raising(TASK, texts, tries, solutions(1, 0, 0, 0)) == [1, 3]
    assert rlad.raising(TASK, texts, tries, solutions(1, 1, 1, 1)) == []
    with pytest.raises(ValueError, match="alone is empty"):
        rlad.raising(TASK, texts, tries, [])


def proposals(rewards: Sequence[float], *alone: int) -> dict[str, list[Group]]:
    """A group of one-token proposals with these rewards, and solutions without any abstraction."""
    turns = [Turn(i, None, (7,), (10 + i,), (-0.1,), Message("assistant", "x")) for i in range(len(rewards))]
    members = tuple(Trajectory(TASK, (turn,), "x") for turn in turns)
    rows = [solved(right) for right in alone]
    unaided = Group(TASK, (), tuple(rows), tuple(rlad.solver_reward(TASK, rows)), tuple(range(len(rows))))
    scores = tuple(Score(reward) for reward in rewards)
    return {"proposer": [Group(TASK, (), members, scores, tuple(range(len(rewards))))], "solver": [unaided]}


def test_the_proposer_learns_from_proposals_above_the_success_without_any() -> None:
    """Without an abstraction one in four is right: .5 and .3 of .2, .5, .1, .3 are above .25."""
    assert [row.ids for row in rlad.accepted_proposals(proposals((0.2, 0.5, 0.1, 0.3), 1, 0, 0, 0))] == [
        (7, 11),
        (7, 13),
    ]
    assert rlad.accepted_proposals(proposals((0.2, 0.5), 1, 1)) == []
    assert rlad.accepted_proposals({**proposals((0.2, 0.5)), "solver": []}) == []  # nobody measured what to rise above


def test_the_proposer_learns_from_pairs_of_proposals() -> None:
    """Rewards .75, 0, 1, .75 with margin .2: (0, 1), (2, 0), (2, 1), (2, 3), (3, 1)."""
    pairs = rlad.proposal_pairs(proposals((0.75, 0, 1, 0.75), 0), margin=0.2)
    assert [(pair.chosen.ids[-1] - 10, pair.rejected.ids[-1] - 10) for pair in pairs] == [
        (0, 1), (2, 0), (2, 1), (2, 3), (3, 1),
    ]  # fmt: skip


def test_the_start_shows_both_players_what_rollouts_show_them() -> None:
    """The prompts are those that the agents ask with, tools included; only what the players write is learnt."""
    policy, world = tiny_policy(), Arithmetic(tools=("calculator",))
    (task,) = world.tasks("train", 1)
    with pytest.raises(ValueError, match="is empty"):
        rlad.warm_start([(task, " ")], world)
    stage = rlad.warm_start([(task, "add\n")], world, solve=world.demonstrate, max_steps=30)
    proposer, solver = stage.data(policy, 0)
    session = world.start(task)
    aided = rlad.hand_down(task, replace(solved(1), task=task, answer="add"))
    assert aided is not None
    for row, agent, problem in (
        (proposer, rlad.proposer_recipe(grpo()).agent, task),
        (solver, rlad.recipe(grpo()).agent, aided),
    ):
        first: Any = next(agent(problem, session))
        prompt = policy.prompt_ids(first)
        assert row.ids[: len(prompt)] == prompt
        assert row.turn[: len(prompt)] == (-1,) * len(prompt)
        assert row.turn[len(prompt)] == 0
    said = policy.tokenizer.decode([i for i, turn in zip(proposer.ids, proposer.turn, strict=True) if turn >= 0])
    assert said.startswith("add")
    losses = fit(policy, stage, Settings(max_steps=30, per_device_train_batch_size=2, learning_rate=1e-2))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("choose", "learn"), [(rlad.accepted_proposals, None), (rlad.proposal_pairs, rpo_stage)])
def test_the_players_take_turns(choose: Any, learn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds of two solver steps and one of the proposer, who is given what the solver of the day has tried."""
    speller = Speller(tokens=3)
    monkeypatch.setattr(rlad, "proposer_recipe", lambda base: replace(base, agent=speller, num_generations=3))
    world, base = Bench(), replace(grpo(), agent=speller, reward=by_ids)
    made = rlad.alternating(
        base, world, choose=choose, learn=learn, rounds=2, solver_steps=2, proposer_steps=1, tasks=3, num_generations=4
    )
    settings = Settings(max_steps=9, per_device_train_batch_size=9, gradient_accumulation_steps=1, learning_rate=1e-2)
    assert check(made, settings) == 3
    train(made, world, tiny_policy(), settings, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["phase"], row["round"], row["part"]) for row in rows] == [
        (phase, lap, part) for lap in (0, 1) for phase, part in (("train", 0), ("train", 0), ("data", 1), ("train", 1))
    ]
    data = [row for row in rows if row["phase"] == "data"]
    assert all(row["rows"] >= 1 and row["tokens/sampled"] > 0 for row in data)


def by_ids(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Score 1 where the sum of the sampled ids is even."""
    values = [float(sum(i for turn in t.turns for i in turn.sampled) % 2 == 0) for t in trajectories]
    return [Score(value, parts={"outcome": value}) for value in values]


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
    rows = [claim.arm(seed=1, steps=1, tasks=1, rate=10.0, proposing=proposing) for proposing in (True, False)]
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
