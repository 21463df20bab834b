"""HDPO: two channels, frugality among right answers only, and what one sum does instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tests.contracts.checks import check_reward

from ferrule.core.arrays import Signals, apply, pack
from ferrule.core.flows import Ask
from ferrule.core.recipe import vary
from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn
from ferrule.credit.group import group_relative
from ferrule.data.cold_start import Candidate, screened
from ferrule.objectives.reduce import token_mean, totals
from ferrule.objectives.surrogate import reinforce, surrogate
from ferrule.papers import find, hdpo
from ferrule.policies.scripted import Scripted
from ferrule.rollout.run import Limits
from ferrule.tools import tool
from ferrule.train.grpo import grpo
from ferrule.train.loop import Settings, check
from ferrule.worlds.session import Toolbox

TASK = Task("t", "?", answer="yes")


def played(right: int, rounds: int, *, formed: int = 1, calls: int = 1) -> Trajectory:
    """An episode of ``rounds`` turns with ``calls`` calls each, one token per turn, and an answer."""
    status = "ok" if formed else "malformed"
    turns = []
    for k in range(rounds):
        seen = tuple(Observation("r") for _ in range(calls))
        reply = Message("assistant", calls=tuple(Call("f") for _ in seen))
        turns.append(Turn(k, k - 1 if k else None, (), (1,), (-0.5,), reply, observations=seen))
    tail = () if formed else (Observation("?", status=status),)  # type: ignore[arg-type]
    reply = Message("assistant", "x", calls=tuple(Call("g") for _ in tail))
    turns.append(Turn(rounds, rounds - 1 if rounds else None, (), (2,), (-0.5,), reply, observations=tail))
    return Trajectory(TASK, tuple(turns), answer="yes" if right else "no")


def batch(
    right: Sequence[int], rounds: Sequence[int], formed: Sequence[int] = (1, 1, 1, 1), groups: Sequence[int] = (0,) * 4
) -> Signals:
    rows = [played(a, t, formed=f) for a, t, f in zip(right, rounds, formed, strict=True)]
    return pack(rows, hdpo.two_channels(TASK, rows), groups[: len(rows)])


def advantages(signals: Signals) -> tuple[list[float], list[float]]:
    """One number per row and channel, before the second is scaled to its own mean."""
    accuracy, efficiency = apply(partial(hdpo.decoupled, efficiency=1.0), signals)
    own_N = (signals.turn_NT >= 0).sum(1)
    active = own_N[(efficiency != 0).any(1)].sum()
    scale = own_N.sum() / active if active else 1.0
    first = np.asarray([row[turn >= 0][0] for row, turn in zip(accuracy, signals.turn_NT, strict=True)])
    second = np.asarray([row[turn >= 0][0] for row, turn in zip(efficiency, signals.turn_NT, strict=True)])
    return first.tolist(), (second / scale).tolist()


@pytest.mark.parametrize(
    ("right", "formed", "rounds", "accuracy", "efficiency"),
    [
        ([1, 1, 1, 0], [1, 1, 1, 1], [0, 1, 3, 0], [0.5, 0.5, 0.5, -1.5], [1.0911, -0.2182, -0.8729, 0]),
        ([1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 2, 5], [0, 0, 0, 0], [0.8555, 0.8555, -0.6654, -1.0456]),
        ([1, 0, 0, 0], [1, 1, 0, 1], [2, 0, 0, 0], [1.4924, -0.4264, -0.6396, -0.4264], [0, 0, 0, 0]),
        ([1, 1, 0, 0], [1, 1, 1, 1], [2, 2, 0, 9], [0.866, 0.866, -0.866, -0.866], [0, 0, 0, 0]),
    ],
)
def test_advantages_of_both_channels(
    right: list[int], formed: list[int], rounds: list[int], accuracy: list[float], efficiency: list[float]
) -> None:
    """Accuracy .9 a + .1 f over the group; 1 / (T + 1) among right answers; nothing for a lone one or equal ones."""
    found = advantages(batch(right, rounds, formed))
    assert found[0] == pytest.approx(accuracy, abs=2e-4)
    assert found[1] == pytest.approx(efficiency, abs=2e-4)


def test_channels_of_the_reward() -> None:
    scores = hdpo.two_channels(TASK, [played(1, 0), played(1, 1), played(1, 3), played(0, 0), played(0, 0, formed=0)])
    assert [s.parts["accuracy"] for s in scores] == pytest.approx([1, 1, 1, 0.1, 0])
    assert [s.parts["efficiency"] for s in scores] == [1, 0.5, 0.25, 0, 0]
    assert [s.value for s in scores] == [s.parts["accuracy"] for s in scores]


@pytest.mark.parametrize(
    ("right", "rounds", "expected"),
    [
        ([1, 1, 1, 0], [0, 1, 3, 0], [0.5269, 0.5066, 0.4661, -1.4995]),
        ([1, 1, 1, 1], [0, 0, 2, 5], [0.7406, 0.7406, -0.1058, -1.3754]),
    ],
)
def test_one_sum_hides_the_cost_in_mixed_groups_and_blows_it_up_in_right_ones(
    right: list[int], rounds: list[int], expected: list[float]
) -> None:
    rows = [played(a, t) for a, t in zip(right, rounds, strict=True)]
    signals = pack(rows, hdpo.coupled_reward(TASK, rows), [0] * 4)
    adv_NT = apply(partial(group_relative, std="unbiased"), signals)
    assert adv_NT[:, 0] == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(
    ("text", "formed"),
    [
        ("<think>a</think><answer>4</answer>", True),
        ("<think>a<answer>4</answer>", False),
        ("<think>a</think>4", False),
        ("<answer>4</answer><think>a</think>", False),
        ("<think>a</think><tool_call>f<answer>4</answer>", False),
        ("<think>a</think><tool_call>f</tool_call><think>b</think><answer>4</answer>", True),
        ("", False),
    ],
)
def test_form_of_a_text(text: str, formed: bool) -> None:
    assert hdpo.text_format(text) is formed


def test_the_efficiency_loss_is_a_mean_over_rows_that_have_any() -> None:
    """Its gradient equals that of the mean over these rows alone, whatever else is in the batch."""
    signals = batch([1, 1, 0, 0], [0, 3, 2, 5])
    _, adv_NT = apply(partial(hdpo.decoupled, efficiency=1.0), signals)
    turn_NT, logp_NT = torch.from_numpy(signals.turn_NT), torch.from_numpy(signals.logp_NT)
    whole = token_mean(reinforce(logp_NT, torch.from_numpy(adv_NT), turn_NT), turn_NT, totals(turn_NT))
    plain_NT = np.where(turn_NT >= 0, np.asarray([[1.0], [-1.0], [0.0], [0.0]]) / np.sqrt(2), 0.0)[:2]
    part = token_mean(reinforce(logp_NT[:2], torch.from_numpy(plain_NT), turn_NT[:2]), turn_NT[:2], totals(turn_NT[:2]))
    assert whole.item() == pytest.approx(part.item(), rel=1e-5)


def test_wrong_answers_never_gain_by_being_frugal() -> None:
    """The ablation that must differ: in one sum the wrong answer without calls beats the wrong one with calls."""
    signals = batch([1, 1, 0, 0], [1, 3, 0, 6])
    assert advantages(signals)[1][2:] == [0, 0]
    rows = [played(a, t) for a, t in zip([1, 1, 0, 0], [1, 3, 0, 6], strict=True)]
    idle, busy = (s.value for s in hdpo.coupled_reward(TASK, rows)[2:])
    assert idle > busy


def test_unlucky_batches() -> None:
    """Singletons, groups without a right answer, and rounds that never ran."""
    signals = batch([1, 0, 0, 1], [2, 0, 1, 1], groups=(0, 1, 1, 2))
    first, second = advantages(signals)
    assert first == second == [0, 0, 0, 0]
    refused = replace(played(1, 1), turns=(replace(played(1, 1).turns[0], observations=(Observation("", "refused"),)),))
    assert hdpo.interactions(refused) == 0
    ended = replace(refused, turns=(replace(refused.turns[0], observations=(Observation("", terminal=True),)),))
    assert hdpo.interactions(ended) == 0
    assert hdpo.interactions(played(1, 2, calls=3)) == 2
    with pytest.raises(ValueError, match="use two_channels as reward"):
        apply(hdpo.decoupled, pack([played(1, 0)], [hdpo.coupled_reward(TASK, [played(1, 0)])[0]], [0]))


def test_recipe_is_a_difference_to_its_base() -> None:
    base = grpo(num_generations=4)
    changed = hdpo.recipe(base)
    assert (changed.objective, changed.reduce, changed.num_generations, changed.agent) == (
        surrogate,
        token_mean,
        16,
        base.agent,
    )
    for other in (base, grpo(beta=0.1), grpo(loss_type="grpo")):
        assert check(hdpo.recipe(other), Settings(per_device_train_batch_size=16, gradient_accumulation_steps=1)) == 1


def test_form_may_be_judged_by_tags() -> None:
    def tags(trajectory: Trajectory) -> bool:
        return hdpo.text_format(trajectory.answer or "")

    (score,) = hdpo.two_channels(TASK, [played(1, 0)], well=tags)
    assert score.parts["accuracy"] == pytest.approx(0.9)


def test_what_the_base_solves_without_tools_is_counted() -> None:
    """The first task is always solved; of the second every other of eight samples, so only the second is kept."""
    said, offers = 0, list[int]()

    def speak(ask: Ask, sample: int) -> str:
        nonlocal said
        said, offers[len(offers) :] = said + 1, [len(ask.tools)]
        return "yes" if ask.messages[-1].content == "easy?" or said % 2 else "no"

    tasks = [Task("easy", "easy?", answer="yes"), Task("hard", "hard?", answer="yes")]
    world = Toolbox((tool(lambda: "1", name="peek"),))
    hasty = vary(grpo(num_generations=4), enough=lambda ended, samples: True)  # counts need all tries
    solved = hdpo.solved_without_tools(hasty, tasks, world, Scripted(speak), limits=Limits(episodes=1))
    assert (solved, set(offers)) == ([8, 4], {0})
    checked = screened(Candidate(task, (), count) for task, count in zip(tasks, solved, strict=True))
    assert [task.id for task, _ in checked.kept] == ["hard"]


def test_rewards_keep_the_promises_of_their_kind() -> None:
    check_reward(hdpo.two_channels)
    check_reward(hdpo.coupled_reward)


def test_paper_is_found() -> None:
    assert find("hdpo") is hdpo.PAPER
