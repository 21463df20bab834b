"""LOOP: leave-one-out advantages, small ones dropped, a reciprocal clip range, and a mean per rollout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tests.contracts.checks import check_reward
from tests.toys import tiny_policy
from tests.train.pieces import LETTERS, Speller, seeded

from ferrule.core.arrays import Signals, apply, by_name, pack
from ferrule.core.recipe import vary
from ferrule.core.records import Call, Message, Observation, Score, Task, Trajectory, Turn
from ferrule.credit.group import group_relative, leave_one_out
from ferrule.objectives.reduce import totals
from ferrule.papers import find, loop_ida
from ferrule.rollout.enough import most_of
from ferrule.train.grpo import grpo
from ferrule.train.loop import Settings, check, train
from ferrule.train.sample import masked
from ferrule.train.update import Sequences, update

TASK = Task("t", "?", meta={"state": {"passed": True}})


def played(share: float, statuses: Sequence[str] = (), *, idle: int = 0, answer: str | None = "done") -> Trajectory:
    """An episode with one call per status, ``idle`` turns without one before, and an answer."""
    turns = []
    for k in range(idle + len(statuses) + 1):
        seen = (Observation("r", status=statuses[k - idle]),) if idle <= k < idle + len(statuses) else ()  # type: ignore[arg-type]
        reply = Message("assistant", "x", calls=tuple(Call("f") for _ in seen))
        turns.append(Turn(k, k - 1 if k else None, (), (1,), (-0.5,), reply, observations=seen))
    return Trajectory(TASK, tuple(turns), answer=answer, final={"partial": share, "passed": share == 1.0})


def batch(values: Sequence[float], groups: Sequence[int] | None = None) -> Signals:
    return pack([played(0.0) for _ in values], [Score(v) for v in values], groups or [0] * len(values))


def test_leave_one_out() -> None:
    """Returns 1, 0, 0, .5 against the mean of the others; the group's mean gives 3/4 of that."""
    signals = batch([1, 0, 0, 0.5])
    assert apply(leave_one_out, signals)[:, 0] == pytest.approx([0.8333, -0.5, -0.5, 0.1667], abs=1e-4)
    assert apply(group_relative, signals)[:, 0] == pytest.approx([0.625, -0.375, -0.375, 0.125])
    divided = partial(group_relative, baseline="leave_one_out", std="population")
    assert apply(divided, signals)[:, 0] == pytest.approx([2.0101, -1.206, -1.206, 0.402], abs=1e-3)


def test_other_baselines_and_a_push() -> None:
    signals = batch([1, 0, 0, 0.5])
    pushed = apply(loop_ida.recipe(grpo(), credit=group_relative, push=0.1).credit, signals)
    assert pushed[:, 0] == pytest.approx([0.725, -0.275, -0.275, 0.225])
    assert not apply(loop_ida.recipe(grpo(), push=0.1).credit, batch([1, 1])).any()


@pytest.mark.parametrize("bad", [{"ratio": "tokens"}, {"clip": -1.0}, {"clip": math.nan}])
def test_settings_that_are_none_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        loop_ida.recipe(grpo(), **bad)


def test_unreadable_calls_are_no_code() -> None:
    """Two turns of which nobody could read the call: .5 - 2 * .1."""
    reply = Message("assistant", "x", calls=(Call("", problem="no call"),))
    seen = (Observation("r", status="malformed"),)
    turns = tuple(Turn(k, k - 1 if k else None, (), (1,), (-0.5,), reply, observations=seen) for k in range(2))
    path = Trajectory(TASK, turns, None, "turns", final={"partial": 0.5})
    (score,) = loop_ida.dense_return(TASK, [path], failed=0.1, idle=0.1)
    assert score.value == pytest.approx(0.3)
    with pytest.raises(ValueError, match="the least is 0"):
        loop_ida.dense_return(TASK, [path], failed=-1.0)
    with pytest.raises(ValueError, match="must be finite"):
        loop_ida.dense_return(TASK, [replace(path, final={"partial": math.nan})])


def test_what_the_base_says_is_kept() -> None:
    def judged(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        return [Score(0.0, turns=(0.5,), group="g", drop=True) for _ in trajectories]

    (score,) = loop_ida.dense_return(TASK, [played(0.5)], base=judged)
    assert (score.value, score.turns, score.group, score.drop) == (0.5, (0.5,), "g", True)


def test_small_advantages_are_dropped() -> None:
    """Two equal returns give nothing; .006 over three leaves A = .009 at most, which is dropped as well."""
    rule = loop_ida.recipe(grpo()).credit
    assert not apply(rule, batch([1, 1])).any()
    assert not apply(rule, batch([0.006, 0.0, 0.0])).any()
    assert apply(rule, batch([1, 0, 0, 0.5])).any()
    assert not apply(rule, batch([1.0])).any()


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss"),
    [(0.8, "token", -0.853333), (-0.8, "token", 0.959199), (0.8, "product", -0.88)],
)
def test_loss_of_one_rollout(advantage: float, ratio: str, loss: float) -> None:
    """Three tokens, e = .1: ratios e^.1 and e^.4 are cut to 1.1 for A > 0 and stay for A < 0; as a product, e^.5."""
    own = loop_ida.recipe(grpo(), ratio=ratio)  # type: ignore[arg-type]
    named = {
        "logp_NT": torch.tensor([[-1.0, -0.5, -2.0]], dtype=torch.float64),
        "old_NT": torch.tensor([[-1.1, -0.9, -2.0]], dtype=torch.float64),
        "adv_NT": torch.full((1, 3), advantage, dtype=torch.float64),
        "turn_NT": torch.zeros((1, 3), dtype=torch.int64),
    }
    found = own.reduce(by_name(own.objective, named), named["turn_NT"], totals(named["turn_NT"]))
    assert found.item() == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize(("gap", "bound"), [(-1.0, 1 / 1.1), (1.0, 1.1)])
def test_clip_bounds(gap: float, bound: float) -> None:
    """The lower bound is 1 / 1.1 = .909, not .9."""
    one = torch.zeros((1, 1), dtype=torch.int64)
    found = by_name(
        loop_ida.recipe(grpo()).objective,
        {
            "logp_NT": torch.tensor([[gap]]),
            "old_NT": torch.zeros(1, 1),
            "adv_NT": torch.tensor([[gap]]),
            "turn_NT": one,
        },
    )
    assert found.item() == pytest.approx(-gap * bound, rel=1e-5)
    free = by_name(
        loop_ida.plain(grpo()).objective,
        {
            "logp_NT": torch.tensor([[gap]]),
            "old_NT": torch.zeros(1, 1),
            "adv_NT": torch.tensor([[gap]]),
            "turn_NT": one,
        },
    )
    assert free.item() == pytest.approx(-gap * math.exp(gap), rel=1e-5)


def test_returns() -> None:
    """3 of 6 tests give .5; 1 of 6 less 4 failed calls at .1 is below 0 and counts 0; turns without a call cost."""
    rows = [played(0.5), played(1 / 6, ["error", "timeout", "error", "error"]), played(0.5, ["ok"], idle=2)]
    assert [s.value for s in loop_ida.dense_return(TASK, rows, failed=0.1)] == pytest.approx([0.5, 0.0, 0.5])
    assert [s.value for s in loop_ida.dense_return(TASK, rows, idle=0.1)] == pytest.approx([0.5, 1 / 6, 0.3])
    assert [s.parts["outcome"] for s in loop_ida.dense_return(TASK, [played(1.0), played(0.9)])] == [1.0, 0.0]
    assert loop_ida.idle_turns(played(0.0, answer=None)) == 1
    assert loop_ida.idle_turns(Trajectory(TASK, ())) == 0


def test_without_checks_the_base_reward_counts() -> None:
    asked = Task("a", "?", answer="yes")
    rows = [Trajectory(asked, (), answer="yes"), Trajectory(asked, (), answer="no")]
    assert [s.value for s in loop_ida.dense_return(asked, rows)] == [1.0, 0.0]
    check_reward(loop_ida.dense_return)


def test_long_rollouts_weigh_as_much_as_short_ones() -> None:
    """The ablation that must differ: a mean over tokens would give the long rollout five times the weight."""
    own = loop_ida.recipe(grpo())
    turn = torch.tensor([[0, -1, -1, -1, -1], [0, 0, 0, 0, 0]])
    loss = torch.where(turn >= 0, torch.tensor([[1.0], [3.0]]), torch.zeros(1))
    assert own.reduce(loss, turn, totals(turn)).item() == pytest.approx(2.0)
    assert grpo().reduce(loss, turn, totals(turn)).item() == pytest.approx(16 / 6)


def test_recipe() -> None:
    own = loop_ida.recipe(grpo())
    assert (own.num_generations, own.num_iterations, own.num_mini_batches) == (6, 2, 1)
    assert (own.mini_batch_size, own.max_log_ratio, own.enough) == (32, 20.0, None)
    assert check(own, Settings(per_device_train_batch_size=6, gradient_accumulation_steps=1)) == 1
    alone = loop_ida.plain(grpo())
    assert (alone.num_iterations, alone.num_mini_batches, alone.mini_batch_size) == (1, 1, None)
    parts = loop_ida.recipe(grpo(), num_mini_batches=8, enough=most_of)
    assert (parts.num_mini_batches, parts.mini_batch_size, parts.enough) == (8, None, most_of)


@pytest.mark.parametrize(("kept", "loss"), [(32, 1.0), (8, 0.25)])
def test_the_divisor_stays_when_rollouts_are_set_aside(kept: int, loss: float) -> None:
    """Forty rollouts with a loss of 1 each, of which ``kept`` have an advantage: kept / 32, in one step."""
    own, policy = loop_ida.recipe(grpo(), num_iterations=1), tiny_policy()
    adv = [np.full(2, float(i < kept)) for i in range(40)]
    seqs = Sequences([np.array([5, 6])] * 40, [np.array([-1, 0])] * 40, {"adv": adv})

    def ones(logp_NT: Any, turn_NT: Any) -> Any:
        return torch.where(turn_NT >= 0, 1.0 + 0.0 * logp_NT, torch.zeros_like(logp_NT))

    told = update(
        policy, seqs, ones, own.reduce, torch.optim.SGD(policy.parameters(), lr=0.0),
        mini_batch_size=own.mini_batch_size, max_log_ratio=own.max_log_ratio,
    )  # fmt: skip
    assert (told["loss"], told["optimizer_steps"]) == (pytest.approx(loss), 1.0)


def test_tokens_behind_the_learning_length_carry_no_loss() -> None:
    """A row of seven tokens of which five are the model's: with a length of 4, two of those are left."""
    row = Turn(0, None, (1, 2), (3, 4, 5, 6, 7), (-0.5,) * 5, Message("assistant", "x"))
    signals = pack([Trajectory(TASK, (row,), answer="done")], [Score(1.0)], [0])
    mask = loop_ida.recipe(grpo(), longest=4).mask
    assert mask is not None
    assert masked(signals, mask).turn_NT.tolist() == [[-1, -1, 0, 0, -1, -1, -1]]
    assert loop_ida.recipe(grpo()).mask is None
    with pytest.raises(ValueError, match="longest is -1"):
        loop_ida.recipe(grpo(), longest=-1)


def test_a_run_by_the_recipe_stops_early_and_collects_early() -> None:
    """A bound no step can keep: the first minibatch of two steps, the second is left out; groups may lack a member."""
    own = loop_ida.recipe(grpo(), num_generations=4, enough=partial(most_of, share=0.5, per_task=0.5), least=0.0)
    own = vary(own, agent=Speller(turns=1, tokens=4), reward=seeded, max_log_ratio=1e-6)
    rows: list[Any] = []
    settings = Settings(max_steps=2, per_device_train_batch_size=8, gradient_accumulation_steps=1, learning_rate=0.1)
    train(own, LETTERS, tiny_policy(), settings, None, show=rows.append)
    steps = [row for row in rows if row["phase"] == "train"]
    assert [(row["optimizer_steps"], row["stopped_early"]) for row in steps] == [(1.0, 1.0)] * 2


def test_paper_is_found() -> None:
    assert find("loop-ida") is loop_ida.PAPER
