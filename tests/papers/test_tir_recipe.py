"""The recipe's functions over data, its reward, and the tiny student."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tests.contracts.checks import check_credit, check_reward

from ferrule.core.arrays import apply, by_name, pack
from ferrule.core.records import Message, Score, Task, Trajectory, Turn
from ferrule.data.formats import trajectory_row
from ferrule.evaluate.metrics import pass_at_k
from ferrule.papers import find, tir_recipe
from ferrule.papers.tir_recipe import Checkpoint, Trace, experiment, students
from ferrule.papers.tir_recipe.students import Problem, Student
from ferrule.train.grpo import grpo
from ferrule.train.loop import Settings, check


@pytest.mark.parametrize(
    ("n", "c", "k", "value"), [(8, 2, 1, 0.25), (8, 2, 4, 0.785714), (16, 1, 8, 0.5), (8, 0, 4, 0), (4, 4, 2, 1)]
)
def test_pass_at_k(n: int, c: int, k: int, value: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(value, abs=1e-6)


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


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (Trace(0.75, 0.25, 8000, True, 3), ""),
        (Trace(1, 1, 3000, True, 1), "no gain"),
        (Trace(0.5, 0, 40000, True, 9), "overlong"),
        (Trace(0.5, 0.75, 5000, True, 2), "no gain"),
        (Trace(0.25, 0, 6000, False, 2), "wrong answer"),
        (Trace(0.25, 0, 6000, True, 0), "no call"),
        (Trace(0.25, 0, 6000, True, 2, unresolved=1), "unresolved call"),
        (Trace(0, 0, 6000, True, 2), "no gain"),
    ],
)
def test_which_traces_are_learned_from(trace: Trace, reason: str) -> None:
    assert tir_recipe.refused(trace) == reason


def test_a_problem_that_is_never_solved_has_no_advantage() -> None:
    assert tir_recipe.tool_advantage(0.75, 0.25) == 0.5
    assert tir_recipe.tool_advantage(0, 0.5) == -0.5
    assert tir_recipe.refused(Trace(0, 0, 1, True, 1), least_gain=-2.0) == "no gain"


def test_mixing() -> None:
    """3000 tool traces at a quarter: 1000 text-only ones."""
    assert tir_recipe.text_count(3000) == 1000
    assert tir_recipe.text_count(3000, rho=0.0) == 0
    out = tir_recipe.mixed(["t"] * 9, ["a", "b"], seed=3)
    assert sorted(out) in (["a"] * 2 + ["b"] + ["t"] * 9, ["a"] + ["b"] * 2 + ["t"] * 9)
    assert out == tir_recipe.mixed(["t"] * 9, ["a", "b"], seed=3)
    assert tir_recipe.mixed([], ["a"]) == []
    with pytest.raises(ValueError, match="below 1"):
        tir_recipe.text_count(3, rho=1.0)
    with pytest.raises(ValueError, match="there are none"):
        tir_recipe.mixed(["t"] * 9, [])


def test_teachers_by_gain_then_by_likelihood() -> None:
    measured = {"strong": (0.104, 1.9), "plain": (0.101, 0.8), "weak": (0.02, 0.1)}
    assert tir_recipe.rank_teachers(measured) == ["plain", "strong", "weak"]
    assert tir_recipe.rank_teachers(measured, digits=3) == ["strong", "plain", "weak"]
    with pytest.raises(ValueError, match="of lost is NaN"):
        tir_recipe.rank_teachers({**measured, "lost": (math.nan, 0.1)})


def test_bands() -> None:
    bands = {"entropy": (0.1, 2.0), "calls": (0.2, 5.0), "cut": (0.0, 0.1)}
    assert tir_recipe.left_bands({"entropy": 0.05, "calls": 1.0, "cut": math.nan}, bands) == ["entropy", "cut"]
    assert tir_recipe.left_bands({"entropy": 1, "calls": 1}, bands) == ["cut"]
    assert tir_recipe.left_bands({"entropy": math.inf}, {"entropy": (0, math.inf)}) == ["entropy"]


def test_loss_mask() -> None:
    """[prompt][think][call][obs][think][answer][eos]."""
    turns = (
        Turn(0, None, (1,), (2, 3), (-0.1, -0.1), Message("assistant")),
        Turn(1, 0, (4,), (5, 6, 7), (-0.1,) * 3, Message("assistant", "x")),
    )
    row = trajectory_row(Trajectory(Task("t", "?"), turns, "x"))
    assert [int(turn >= 0) for turn in row.turn] == [0, 1, 1, 0, 1, 1, 1]
    own = students.tool_row(Problem(12, 34), think=1, answer=[6, 4, 0])
    assert [int(turn >= 0) for turn in own.turn] == [0] * 7 + [1, 1] + [0] * 4 + [1] * 5


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
    assert (changed.epochs, changed.minibatches) == (1, 1)
    assert check(changed, Settings(per_device_train_batch_size=8)) == 1
    keep: Any = changed.keep
    assert not keep([], [Score(1.0), Score(1.0)])
    assert keep([], [Score(1.0), Score(0.0)])
    assert not keep([], [Score(1.0)])


class Oracle:
    """A student that thinks once, calls, and copies what it sees; without a tool it calls all the same."""

    def __call__(self, ids_NT: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, list[list[int]]]:
        seen = [[*old, *new] for old, new in zip(state or [[]] * len(ids_NT), ids_NT.tolist(), strict=True)]
        logits = torch.full((len(seen), 1, students.WRITABLE), -60.0)
        for n, row in enumerate(seen):
            own = [i for i in row[7:] if i >= 0]
            script = [students.THINK, students.CALL, *[0] * 4, students.ANSWER]
            script += [max(i - students.RESULT - 1, 0) for i in own[3:6]] + [students.END]
            logits[n, 0, script[min(len(own), len(script) - 1)] if len(own) < 10 else students.END] = 0.0
        return logits, seen


def test_play_shows_results_and_cuts_rows_into_turns() -> None:
    oracle: Any = Oracle()
    pair = [Problem(123, 456), Problem(7, 8)]
    for tools in (True, False):
        played = students.play(oracle, pair, tools=tools, generator=torch.Generator().manual_seed(0))
        assert [t.finish for t in played] == ["answer", "answer"]
        assert [len(t.turns) for t in played] == [2, 2]
        assert [t.answer == t.task.answer for t in played] == [tools, tools]
        assert [o.executed for t in played for _, o in t.calls] == [tools, tools]
        assert played[0].turns[0].sampled == (students.THINK, students.CALL)
        wanted = pair[0].result if tools else [students.RESULT] + [students.RESULT + 1] * 3
        assert list(played[0].turns[1].given) == wanted
    assert Problem(123, 456).digits == [9, 7, 5]


def test_rows_and_rollouts_are_scored_alike() -> None:
    """What sampling noted as log-probs is what the student gives to the same ids."""
    torch.manual_seed(0)
    student = Student()
    played = students.play(student, [Problem(5, 6)] * 8, tools=True, generator=torch.Generator().manual_seed(1))
    for trajectory in played:
        row = trajectory_row(trajectory)
        ids, turn = torch.tensor([row.ids]), torch.tensor([row.turn])
        own = student.logps(ids, turn)[turn >= 0].tolist()
        assert own == pytest.approx([x for t in trajectory.turns for x in t.logps], abs=1e-4)
        assert trajectory.finish in ("answer", "length")
        assert trajectory.sampled_count <= students.LONGEST


def test_random_problems_are_an_arm_that_differs() -> None:
    torch.manual_seed(0)
    made = experiment.traces(Student(), experiment.SCALES["tiny"], 100)
    assert set(made) == set(experiment.ARMS)
    plain = [sum(row.ids[0] == students.PLAIN for row in made[arm]) for arm in experiment.ARMS]
    assert plain[0] == 0
    assert min(plain[1:]) > 0
    assert np.mean([row.ids[0] == students.PLAIN for row in made[experiment.ARMS[1]]]) == pytest.approx(0.25, abs=0.05)


def test_claim_runs_and_is_honest_about_its_data() -> None:
    first = tir_recipe.claim("tiny", seeds=(0, 1, 2))
    again = experiment.run_seed(1, "tiny")
    for arm, row in again.items():
        assert row == {name: numbers[1] for name, numbers in first.arms[arm].items()}
    assert first.verdict in ("held", "not held", "undecided")
    with pytest.raises(ValueError, match="known: small, tiny"):
        tir_recipe.claim("large")


def test_paper_is_found() -> None:
    assert find("tir-recipe") is tir_recipe.PAPER
