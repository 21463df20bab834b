"""PORTool: form of steps, the recipe on trees, and a training step whose tree is the group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.contracts.checks import check_reward
from tests.toys import WORLDS, layout, tiny_policy

from ferrule.agents.tree import TreeLoop
from ferrule.core.arrays import apply, pack
from ferrule.core.flows import Ask
from ferrule.core.recipe import vary
from ferrule.core.records import Call, Message, Observation, Score, Task, Trajectory, Turn
from ferrule.objectives.reduce import token_mean
from ferrule.objectives.surrogate import surrogate
from ferrule.papers import find, portool
from ferrule.papers.claims import portool as claim
from ferrule.policies.scripted import Scripted, nonsense
from ferrule.rollout.drive import drive
from ferrule.train.grpo import grpo
from ferrule.train.loop import Settings, check
from ferrule.train.sample import masked, sample, stats
from ferrule.train.update import sequences, update
from ferrule.worlds.session import Toolbox

pytestmark = pytest.mark.usefixtures("one_thread")
TASK = Task("t", "?", answer="yes")


def step(number: int, parent: int | None, *statuses: str) -> Turn:
    """A turn with one call per status; ``unread`` is a call that could not be read."""
    kinds = {"unread": "malformed"}
    seen = tuple(Observation("r", status=kinds.get(status, status)) for status in statuses)  # type: ignore[arg-type]
    calls = tuple(Call("f", problem="no JSON" if status == "unread" else "") for status in statuses)
    reply = Message("assistant", "x", calls=calls)
    return Turn(number, parent, (), (1,), (-0.5,), reply, observations=seen)


@pytest.mark.parametrize(
    ("statuses", "last", "answered", "form"),
    [
        (["ok"], False, False, 0.5),
        (["ok", "ok"], False, False, 0.5),
        (["error"], False, False, 0.375),
        (["timeout"], False, False, 0.375),
        (["malformed"], False, False, 0.25),
        (["unknown_tool"], False, False, 0.125),
        (["unread"], False, False, 0.0),
        (["ok", "unread"], False, False, 0.25),
        ([], True, True, 0.5),
        ([], True, False, 0.0),
        ([], False, True, 0.0),
    ],
)
def test_form_of_a_step(statuses: Sequence[str], last: bool, answered: bool, form: float) -> None:
    """Four checks per call: read, known, arguments, no error; a step without calls must be the last and answer."""
    assert portool.step_form(step(0, None, *statuses), last=last, answered=answered) == pytest.approx(form)
    assert portool.step_form(step(0, None, *statuses), last=last, answered=answered, cap=1.0) == pytest.approx(2 * form)


def test_the_tree_of_two_forks() -> None:
    """Roots 0 and 1; 2 and 3 follow 0, 4 follows 1; outcomes 1, 0, 0; the call of node 3 could not be read."""
    nodes = [
        step(0, None, "ok"), step(1, None, "ok"), step(2, 0, "ok"), step(3, 0, "unread"), step(4, 1, "ok"),
    ]  # fmt: skip
    rows = [
        Trajectory(TASK, (nodes[0], nodes[2]), "yes"),
        Trajectory(TASK, (nodes[0], nodes[3]), "no"),
        Trajectory(TASK, (nodes[1], nodes[4]), "no"),
    ]
    own = portool.recipe(grpo())
    scores = own.reward(TASK, rows)
    assert [s.turns for s in scores] == [(0.5, 0.5), (0.5, 0.0), (0.5, 0.5)]
    adv_NT = apply(own.credit, pack(rows, scores, [0] * 3, episodes=[0] * 3))
    expected = np.asarray([[0.9958, 1.8618], [0.9958, -1.2845], [-1.2845, -0.5773]])
    assert adv_NT == pytest.approx(expected, abs=2e-4)


def test_without_the_fork_term_siblings_are_told_apart_by_outcomes_only() -> None:
    """The ablation that must differ: two siblings with equal outcomes, one of which wrote a call nobody could read."""
    rows = [Trajectory(TASK, (step(0, None, "ok"),), "no"), Trajectory(TASK, (step(1, None, "unread"),), "no")]
    for weight, differs in ((1.0, True), (0.0, False)):
        own = portool.recipe(grpo(), fork_weight=weight)
        signals = pack(rows, own.reward(TASK, rows), [0, 0], episodes=[0, 0])
        assert bool(apply(own.credit, signals).any()) is differs


def test_calls_that_were_never_run_are_no_answer() -> None:
    turn = replace(step(0, None, "ok"), observations=())
    assert portool.step_form(turn, last=True, answered=True) == 0.125


def test_unfinished_paths_score_nothing() -> None:
    """The state that was wanted is there, and the path went on until it was stopped."""
    task = Task("t", "?", meta={"state": {"done": True}})
    path = Trajectory(task, (step(0, None, "ok"),), None, "turns", final={"done": True})
    (score,) = portool.step_rewards(task, [path])
    assert (score.value, score.parts) == (0, {"outcome": 0})
    assert portool.step_rewards(task, [replace(path, answer="done")])[0].value == 1


def test_a_mask_of_the_base_is_kept() -> None:
    rows = [Trajectory(TASK, (step(0, None, "ok"), step(n, 0, "ok")), "yes") for n in (1, 2)]
    signals = pack(rows, portool.step_rewards(TASK, rows), [0, 0], episodes=[0, 0])
    own = portool.recipe(vary(grpo(), mask=lambda turn_NT: turn_NT == 1))
    assert masked(signals, own.mask).turn_NT.tolist() == [[-1, 1], [-1, 1]]
    assert masked(signals, portool.recipe(grpo()).mask).turn_NT.tolist() == [[0, 1], [-1, 1]]
    per_row = portool.recipe(vary(grpo(), mask=lambda group_N: np.asarray([False, True])))
    assert masked(signals, per_row.mask).turn_NT.tolist() == [[-1, -1], [-1, 1]]


@pytest.mark.parametrize("bad", [{"join": "avg"}, {"gamma": 1.7}, {"select": "best"}])
def test_settings_that_are_none_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        portool.recipe(grpo(), **bad)


def test_eight_paths_of_which_three_are_complete() -> None:
    """Five open paths make ten candidates, of which five are kept: eight leaves."""
    asked: list[int] = []

    def script(ask: Ask, sample: int) -> Message:
        asked.append(ask.n)
        later = len(ask.messages) > 1
        ends = sample < 3 and not later
        return Message("assistant", "yes") if ends else Message("assistant", f"{sample}", calls=(Call("f", id="c"),))

    (episode,) = drive(TreeLoop(samples=8, branch=2, depth=2), [TASK], Toolbox(()), Scripted(script))
    assert [asked.count(n) for n in (8, 2)] == [8, 10]
    assert [len(t.turns) for t in episode.trajectories if t.finish != "discarded"] == [1] * 3 + [2] * 5


def test_recipe_grows_one_tree_per_task() -> None:
    base = grpo(num_generations=8, max_completion_length=99)
    own = portool.recipe(base, branch=3)
    assert own.agent == TreeLoop(samples=8, branch=3, depth=8, max_tokens=99)
    assert (own.num_generations, own.objective, own.reduce) == (1, base.objective, token_mean)
    assert check(own, Settings(per_device_train_batch_size=4, gradient_accumulation_steps=1)) == 4


def test_trains_a_step_and_counts_what_it_gave_up() -> None:
    """The leaves of one tree are the group; candidates that were dropped cost tokens and carry no loss."""
    policy = tiny_policy()
    own = portool.recipe(vary(grpo(max_completion_length=8), objective=surrogate), num_generations=4, depth=3)
    world = WORLDS["apis"]
    tasks = world.tasks("train", 2)
    batch = sample(own, lambda count: tasks[:count], 2, world, nonsense(2, renderer=layout()))
    assert batch.signals.group_N.tolist() == batch.signals.episode_N.tolist()
    assert [len(g.trajectories) for g in batch.groups] == [4, 4]
    kept = {t.id: len(t.sampled) for path in batch.groups[0].trajectories for t in path.turns}
    kept_too = {t.id: len(t.sampled) for path in batch.groups[1].trajectories for t in path.turns}
    assert (batch.signals.turn_NT >= 0).sum() == sum(kept.values()) + sum(kept_too.values())
    assert stats(batch)["tokens/sampled"] >= stats(batch)["tokens"]
    import torch

    optimiser = torch.optim.SGD(policy.parameters(), lr=0.01)
    found = update(policy, sequences(batch), own.objective, own.reduce, optimiser)
    assert np.isfinite(found["loss"])
    assert found["optimizer_steps"] == 1.0


def test_rewards_keep_the_promises_of_their_kind() -> None:
    check_reward(portool.step_rewards)
    assert portool.step_rewards(TASK, [Trajectory(TASK, ())]) == [Score(0.0, parts={"outcome": 0.0})]


def test_tokens_of_trees_and_samples() -> None:
    """Eight first steps and 8 * 2 candidates at each of three more depths: 56 turns; eight samples write 32."""
    tree = claim.arm(change=claim.grown, seed=100, steps=1, first=50)
    samples = claim.arm(seed=100, steps=1, first=50)
    assert (tree["tokens"], samples["tokens"]) == (8 * 50 + 48.0, 8 * 50 + 24.0)


def test_paper_is_found() -> None:
    assert find("portool") is portool.PAPER
