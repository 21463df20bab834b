"""MatchTIR: call rewards by assignment and transport, turn scores, and credit on two levels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.contracts.checks import check_credit, check_reward
from tests.toys import Bench

from ferrule.core.arrays import FloatArray, apply, pack
from ferrule.core.recipe import vary
from ferrule.core.records import Call, Message, Observation, Score, Task, Trajectory, Turn
from ferrule.credit.group import group_relative
from ferrule.papers import find, matchtir
from ferrule.papers.claims import matchtir as claim
from ferrule.train.grpo import grpo
from ferrule.train.loop import check, train
from ferrule.train.settings import Settings
from ferrule.worlds.apis import Apis
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.experts import reference_calls

PREDS = [Call("get", {"x": 1}), Call("get", {"x": 2}), Call("sum", {"a": 1, "b": 2})]
GOLDS = [Call("get", {"x": 2}), Call("sum", {"a": 1, "b": 3})]
ROWS = [{"name": c.name, "arguments": dict(c.arguments)} for c in GOLDS]
TASK = Task("t", "?", answer="Oslo", meta={"calls": ROWS})


def episode(rounds: Sequence[Sequence[Call]], answer: str | None = None, task: Task = TASK) -> Trajectory:
    """An episode of one model token a turn; with an answer its last round is the answering turn."""
    turns = [
        Turn(k, k - 1 if k else None, (7,), (1,), (-0.1,), Message("assistant", calls=tuple(calls)),
             observations=tuple(Observation("r") for _ in calls))
        for k, calls in enumerate(rounds)
    ]  # fmt: skip
    return Trajectory(task, tuple(turns), answer=answer)


def turns_of(rounds: Sequence[Sequence[Call]], answer: str | None = None, **settings: Any) -> tuple[float, ...]:
    (score,) = matchtir.matchtir_reward(TASK, [episode(rounds, answer)], **settings)
    assert score.value == pytest.approx(sum(score.turns))
    return score.turns


@pytest.mark.parametrize("bad", [{"mode": "sofd"}, {"assignment": "zzz"}, {"reg": -1.0}, {"modee": "soft"}])
def test_settings_that_are_none_are_refused_at_once(bad: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=next(iter(bad))):
        matchtir.recipe(grpo(), **bad)


def test_turn_scores() -> None:
    """A turn earns the mean of its calls, the answering turn the answer, a turn with neither nothing."""
    assert turns_of([PREDS[:2], PREDS[2:], []], "Oslo") == pytest.approx((0.5, 0.75, 1))
    assert turns_of([[], PREDS[1:2], []]) == pytest.approx((0, 1, 0))
    assert turns_of([PREDS[1:2], PREDS[2:]], "Oslo") == pytest.approx((1, 1))  # calls of the answering turn are ignored
    (score,) = matchtir.matchtir_reward(TASK, [episode([PREDS[1:], []], "Rome")])
    assert score.parts == pytest.approx({"calls": 0.875, "answer": 0})


def test_unreadable_calls_are_no_calls() -> None:
    broken, listed = Call("get", problem="no JSON"), Call("get", [2])  # type: ignore[arg-type]
    assert turns_of([[broken, PREDS[1]], [listed]]) == pytest.approx((1, 0))


def test_an_expert_earns_every_turn_on_the_worlds() -> None:
    for world in (Arithmetic(), Apis()):
        for task in world.tasks("train", 5, seed=3):
            calls = reference_calls(task)
            (score,) = matchtir.matchtir_reward(task, [episode([[c] for c in calls], task=task)])
            assert score.turns == pytest.approx([1.0] * len(calls))


def advantages(rewards: Sequence[Sequence[float]], **settings: Any) -> list[list[float]]:
    """Advantage per turn of one group of episodes with these turn rewards."""
    group = [episode([[]] * len(row)) for row in rewards]
    scores = [Score(sum(row), turns=tuple(row)) for row in rewards]
    signals = pack(group, scores, [0] * len(group))
    adv_NT: FloatArray = apply(partial(matchtir.dual_level, **settings), signals)
    assert not adv_NT[signals.turn_NT < 0].any()
    return [adv[turn >= 0].tolist() for adv, turn in zip(adv_NT, signals.turn_NT, strict=True)]


def test_dual_level_by_hand() -> None:
    """The last turn of the third row is alone: half its raw return of 1, beside a trajectory part of 0."""
    found = advantages([[1, 1], [1, 0], [0, 0, 1], [0]])
    expected = [[1.2358, 0.9452], [0.0465, -0.575], [-0.0753, 0.2421, 0.5], [-1.2069]]
    for row, wanted in zip(found, expected, strict=True):
        assert row == pytest.approx(wanted, abs=1e-4)


def test_levels_and_lone_turns_can_be_set() -> None:
    rows = [[1.0, 1.0], [1.0, 0.0], [0.0, 0.0, 1.0], [0.0]]
    both, whole, turn = (advantages(rows, mix=mix) for mix in (0.5, 0.0, 1.0))
    assert len({round(value, 9) for value in whole[0]}) == 1
    for b, w, t in zip(both, whole, turn, strict=True):
        assert b == pytest.approx((np.asarray(w) + np.asarray(t)) / 2)
    assert advantages(rows, singleton="zero")[2][2] == pytest.approx(0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        advantages(rows, mix=2.0)


def test_equal_rollouts_teach_nothing() -> None:
    assert advantages([[0.5, 1.0], [0.5, 1.0]]) == [[0, 0], [0, 0]]
    assert advantages([[0.0]]) == [[0]]


def test_only_the_turn_level_tells_halves_apart() -> None:
    """The half-right row gets both signs; one advantage per trajectory cannot.

    Its second right turn is punished as well: the failures after it are part of its return.
    """
    rows = [[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]]
    half = advantages(rows)[0]
    assert np.mean(half[:2]) > 0 > np.mean(half[2:])
    assert half[0] > 0 > half[1]
    assert len(set(advantages(rows, mix=0.0)[0])) == 1


def test_pieces_keep_the_promises_of_their_kinds() -> None:
    for settings in ({}, {"mode": "soft"}, {"assignment": "greedy"}):
        check_reward(partial(matchtir.matchtir_reward, **settings))  # type: ignore[arg-type]
    check_reward(claim.whole_chain)
    check_credit(matchtir.dual_level)
    check_credit(partial(matchtir.dual_level, singleton="zero", gamma=1.0))


def test_recipe_is_sound_and_reads_what_it_asks_for() -> None:
    changed = matchtir.recipe(grpo(), mode="soft")
    assert check(changed, Settings(per_device_train_batch_size=16, gradient_accumulation_steps=1)) == 1
    assert changed.reference
    (score,) = changed.reward(TASK, [episode([[call] for call in PREDS])])
    assert score.turns == pytest.approx((0.11791, 0.323135, 0.25), abs=1e-5)


@pytest.mark.usefixtures("one_thread")
def test_one_step_of_a_model(tiny: Any, tmp_path: Path) -> None:
    """Reference and entropy are at hand for the objective, and turn scores reach the credit of real episodes."""
    golds = [Call("write", {"line": "yes"})]
    base = grpo(max_completion_length=6, max_tool_calling_iterations=2)
    changed = vary(matchtir.recipe(base, golds=lambda task: golds), num_generations=4)
    settings = Settings(max_steps=1, learning_rate=1e-2, per_device_train_batch_size=4, gradient_accumulation_steps=1)
    before = tiny.model.lm_head.weight.detach().clone()
    train(changed, Bench(), tiny, settings, tmp_path)
    assert not torch.equal(tiny.model.lm_head.weight, before)  # the entropy term alone moves weights


def test_one_advantage_per_trajectory_never_tells_halves_apart() -> None:
    assert claim.opposite_signs(partial(group_relative, std="unbiased"), 20, seed=100) == 0
    assert claim.opposite_signs(matchtir.dual_level, 20, seed=100) > 0.5


def test_paper_is_found() -> None:
    assert find("matchtir") is matchtir.PAPER
