"""Tables: the pieces of a recipe on softmax rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from ferrule.core.recipe import Recipe
from ferrule.core.records import Call, Observation, Score, Task, Trajectory
from ferrule.credit.group import broadcast, group_relative
from ferrule.credit.keep import spread
from ferrule.objectives.penalty import add, kl_k3, weighted
from ferrule.objectives.reduce import sequence_mean, token_mean
from ferrule.objectives.surrogate import reinforce, surrogate
from ferrule.rollout.enough import most_of
from ferrule.studies.table import Player, Weights, learn_from, play_group, steps_to, train_table
from ferrule.train.sample import Group, credit

TASKS = [Task("left", "?", answer="0"), Task("right", "?", answer="1")]


def play(task: Task, player: Player) -> Trajectory:
    """One decision out of three in the state of the task; the answer is the action."""
    action = player.decide(TASKS.index(next(t for t in TASKS if t.id == task.id)))
    return player.trajectory(task, str(action))


def right(t: Task, ts: Sequence[Trajectory]) -> list[Score]:
    """The names of the parameters do not matter: rewards are called by position."""
    return [Score(float(one.answer == t.answer)) for one in ts]


RECIPE = Recipe(lambda task, session: iter(()), right, partial(group_relative, std="unbiased"), surrogate, token_mean)  # type: ignore[arg-type,return-value]


def test_a_table_learns_what_pays() -> None:
    table = train_table(RECIPE, play, TASKS, np.zeros((2, 3)), steps=60, learning_rate=1.0, seed=100)
    assert table.chance_SA[0, 0] > 0.9
    assert table.chance_SA[1, 1] > 0.9
    assert table.chance_SA.sum(1) == pytest.approx([1, 1])
    assert (table.episodes, table.steps) == (60 * 2 * 8, 60)


def test_the_same_seed_gives_the_same_table() -> None:
    run = partial(train_table, RECIPE, play, TASKS, np.zeros((2, 3)), steps=5, learning_rate=0.5)
    assert np.array_equal(run(seed=100).chance_SA, run(seed=100).chance_SA)
    assert not np.array_equal(run(seed=100).chance_SA, run(seed=101).chance_SA)


def test_one_step_by_hand() -> None:
    """Reinforce on one decision of three, all equal: d(-A log p_a) / d logits = -A (onehot - 1/3), rate 1."""

    def first(task: Task, player: Player) -> Trajectory:
        player._ids.append(1)
        return player.trajectory(task, "1")

    recipe = replace(
        RECIPE, reward=lambda task, ts: [Score(2.0)] * len(ts), credit=broadcast, objective=reinforce, num_generations=1
    )
    table = train_table(recipe, first, TASKS[:1], np.zeros((1, 3)), steps=1, learning_rate=1.0)
    logits = np.asarray([-2 / 3, 4 / 3, -2 / 3])
    assert table.chance_SA[0] == pytest.approx(np.exp(logits) / np.exp(logits).sum())


def test_decisions_become_turns_with_spans_and_calls() -> None:
    chance = np.asarray([[0.0, 1.0], [1.0, 0.0]])
    player = Player(chance, np.random.default_rng(0))
    assert (player.decide(0), player.decide(1, "call")) == (1, 0)
    player.turn("look", [(Call("f"), Observation("found"))])
    player.decide(0)
    episode = player.trajectory(TASKS[0], "1")
    assert [turn.sampled for turn in episode.turns] == [(1, 2), (1,)]
    assert [turn.parent for turn in episode.turns] == [None, 0]
    assert [(s.label, s.start, s.stop) for s in episode.turns[0].spans] == [("call", 1, 2)]
    assert episode.turns[0].logps == pytest.approx([0.0, 0.0])
    assert [o.text for _, o in episode.calls] == ["found"]


def test_an_action_without_a_chance_is_never_drawn() -> None:
    class Low:
        def random(self) -> float:
            return 0.0

    assert Player(np.asarray([[0.0, 1.0]]), Low()).decide(0) == 1  # type: ignore[arg-type]


def test_groups_that_are_dropped_are_replaced() -> None:
    """With one sample in two a zero spread, refilling draws further groups; the count of episodes shows them."""
    recipe = replace(RECIPE, keep=spread(singletons=False), refill=3, num_generations=2)
    table = train_table(recipe, play, TASKS, np.zeros((2, 3)), steps=20, learning_rate=0.1, seed=100)
    assert table.episodes > 20 * 2 * 2


def test_nothing_kept_changes_nothing() -> None:
    recipe = replace(RECIPE, keep=lambda ts, ss: False)
    seen: list[int] = []

    def watch(step: int, chance_SA: Any) -> dict[str, float]:
        seen.append(step)
        return {"first": float(chance_SA[0, 0])}

    table = train_table(recipe, play, TASKS, np.zeros((2, 3)), steps=2, learning_rate=1.0, watch=watch)
    assert table.chance_SA == pytest.approx(np.full((2, 3), 1 / 3))
    assert seen == [0, 1]
    assert table.curve == ({"first": pytest.approx(1 / 3)},) * 2


def test_dropped_rows_and_masked_tokens_do_not_learn() -> None:
    def dropping(task: Task, ts: Sequence[Trajectory]) -> list[Score]:
        return [replace(score, drop=task.id == "left") for score in right(task, ts)]

    masked = replace(RECIPE, mask=lambda ids_NT: ids_NT >= 3)
    for recipe in (replace(RECIPE, reward=dropping), masked):
        table = train_table(recipe, play, TASKS, np.zeros((2, 3)), steps=10, learning_rate=1.0, seed=100)
        assert table.chance_SA[0] == pytest.approx([1 / 3] * 3)
        assert table.chance_SA[1, 1] > 0.5


def test_paths_of_a_tree_share_their_episode() -> None:
    seen: list[list[int]] = []

    def fork(task: Task, player: Player) -> list[Trajectory]:
        player.decide(0)
        player.turn("shared")
        shared = list(player.turns)
        paths = []
        for i in range(2):
            branch = Player(player.chance_SA, player.rng, list(shared))
            branch.decide(1)
            paths.append(replace(branch.trajectory(task, str(i)), role=f"branch {i}"))
        return paths

    def watched(reward_N: Any, episode_N: Any, turn_NT: Any) -> Any:
        seen.append(episode_N.tolist())
        return broadcast(reward_N, turn_NT)

    recipe = replace(RECIPE, credit=watched, num_generations=2)
    train_table(recipe, fork, TASKS[:1], np.zeros((2, 2)), steps=1, learning_rate=1.0)
    assert seen == [[0, 0, 1, 1]]


def test_a_reference_is_the_start() -> None:
    """With a heavy penalty towards the start, the same rewards move a table less."""
    near = replace(RECIPE, reference=True, objective=add(surrogate, kl_k3, 5.0))
    run = partial(train_table, play=play, tasks=TASKS, start_SA=np.zeros((2, 3)), learning_rate=0.1, seed=100)
    free, held = (run(recipe, steps=40).chance_SA[0, 0] for recipe in (RECIPE, near))
    assert 1 / 3 < held < free - 0.1


def test_arrays_beside_reach_the_objective() -> None:
    """A weight of 0 on the rows of the first task keeps its state where it was."""
    recipe = replace(
        RECIPE,
        beside={"later_NT": lambda group_N: (group_N > 0).astype(float)},
        objective=weighted(surrogate, "later_NT"),
    )
    table = train_table(recipe, play, TASKS, np.zeros((2, 3)), steps=10, learning_rate=1.0, seed=100)
    assert table.chance_SA[0] == pytest.approx([1 / 3] * 3)
    assert table.chance_SA[1, 1] > 0.5


def test_tied_rows_share_parameters() -> None:
    """Both states read one row of parameters: what pays in the first is what the second does as well."""

    def tie(shared: torch.Tensor) -> torch.Tensor:
        return torch.stack([shared[0], shared[0] + shared[1]])

    weights = Weights(np.asarray([[0.0, 0.0], [0.0, math.log(3)]]), tie)
    assert weights.chance_SA == pytest.approx(np.asarray([[0.5, 0.5], [0.25, 0.75]]))
    recipe = replace(RECIPE, reward=lambda task, ts: [Score(float(t.answer == "0")) for t in ts])
    start = np.zeros((2, 3))
    table = train_table(recipe, play, TASKS[:1], start, steps=30, learning_rate=1.0, seed=100, tie=tie)
    assert table.chance_SA[0, 0] > 0.8
    assert table.chance_SA[1] == pytest.approx(table.chance_SA[0])


def test_minibatches_and_epochs_take_every_row() -> None:
    recipe = replace(RECIPE, num_iterations=2, num_mini_batches=3)
    table = train_table(recipe, play, TASKS, np.zeros((2, 3)), steps=30, learning_rate=0.5, seed=100)
    assert table.chance_SA[0, 0] > 0.8


def test_parts_of_one_size_divide_by_it_and_leave_out_what_has_no_advantage() -> None:
    """Of eight rows four have an advantage: in a part of 8 they move the table half as far as in a part of 4."""
    even = np.full((2, 3), 1 / 3)
    paths = tuple(play(TASKS[0], Player(even, np.random.default_rng(k))) for k in range(4))
    equal = (play(TASKS[1], Player(even, np.random.default_rng(0))),) * 4
    assert len({path.answer for path in paths}) > 1
    groups = [
        Group(task, (), rows, tuple(right(task, rows)), (0, 1, 2, 3))
        for task, rows in ((TASKS[0], paths), (TASKS[1], equal))
    ]

    def after(**changes: Any) -> Any:
        weights, recipe = Weights(np.zeros((2, 3))), replace(RECIPE, reduce=sequence_mean, **changes)
        weights.learn(recipe, credit(recipe, groups, weights), learning_rate=0.1, rng=np.random.default_rng(0))
        return weights.now.detach().numpy()

    assert after(mini_batch_size=8) == pytest.approx(after(mini_batch_size=4) / 2)
    assert after(mini_batch_size=8) == pytest.approx(after())  # all eight rows in one part
    assert np.abs(after(mini_batch_size=4)).max() > 0.01


def test_a_table_that_moved_too_far_takes_no_more_steps() -> None:
    """Old log-probs are half a nat below the table's: a bound of .4 ends the steps before the first, .6 does not."""

    def after(most: float) -> bool:
        weights, recipe = Weights(np.zeros((2, 3))), replace(RECIPE, max_log_ratio=most)
        paths = tuple(play(TASKS[0], Player(weights.chance_SA, np.random.default_rng(k))) for k in range(6))
        batch = credit(recipe, [Group(TASKS[0], (), paths, tuple(right(TASKS[0], paths)), tuple(range(6)))], weights)
        old = replace(batch, signals=replace(batch.signals, logp_NT=batch.signals.logp_NT - 0.5))
        weights.learn(recipe, old, learning_rate=0.1, rng=np.random.default_rng(0))
        return bool(weights.now.detach().any())

    assert (after(0.4), after(0.6)) == (False, True)


def test_groups_of_several_kinds_learn_together() -> None:
    """``credit`` and ``Weights.learn`` take any groups, each with its own size and scores."""
    rng = np.random.default_rng(100)
    weights = Weights(np.zeros((2, 3)))
    for _ in range(60):
        groups = []
        for task, size in zip(TASKS, (3, 9), strict=True):
            paths = tuple(play(task, Player(weights.chance_SA, rng)) for _ in range(size))
            groups.append(Group(task, (), paths, tuple(right(task, paths)), tuple(range(size))))
        weights.learn(RECIPE, credit(RECIPE, groups, weights), learning_rate=1.0, rng=rng)
    assert min(weights.chance_SA[0, 0], weights.chance_SA[1, 1]) > 0.8


def test_what_a_table_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="no value head"):
        train_table(replace(RECIPE, critic=broadcast), play, TASKS, np.zeros((2, 3)), steps=1, learning_rate=1.0)
    with pytest.raises(ValueError, match="enough would do nothing"):
        train_table(replace(RECIPE, enough=most_of), play, TASKS, np.zeros((2, 3)), steps=1, learning_rate=1.0)
    with pytest.raises(ValueError, match="gave 1 scores for 8"):
        train_table(
            replace(RECIPE, reward=lambda t, ts: [Score(0.0)]),
            play,
            TASKS,
            np.zeros((2, 3)),
            steps=1,
            learning_rate=1.0,
        )


def test_steps_to_a_level_are_counted_from_one() -> None:
    assert steps_to([0.2, 0.5, 0.4], 0.5, 9) == 2.0
    assert steps_to([0.2, 0.4], 0.5, 9) == 9.0
    assert steps_to([], 0.5, 9) == 9.0


def test_steps_by_hand_are_those_of_a_trained_table() -> None:
    """Playing a group and learning from it, twice, gives the table that ``train_table`` gives for the same draws."""
    recipe, task = replace(RECIPE, num_generations=4), Task("t", "?", "1")

    def decide(player: Player) -> Trajectory:
        return player.trajectory(task, str(player.decide(0)))

    rng, weights = np.random.default_rng(5), Weights(np.zeros((1, 2)))
    for step in range(2):
        group = play_group(recipe, task, decide, weights.chance_SA, rng, step=step)
        assert len(group.trajectories) == len(group.scores) == 4
        learn_from(weights, recipe, [group], learning_rate=1.0, rng=rng, step=step)
    table = train_table(
        recipe, lambda task, player: decide(player), [task], np.zeros((1, 2)), steps=2, learning_rate=1.0, seed=5
    )
    assert weights.chance_SA.tolist() == table.chance_SA.tolist()
    assert weights.chance_SA[0, 1] > 0.5
    learn_from(weights, recipe, [], learning_rate=1.0, rng=rng)
    assert weights.chance_SA.tolist() == table.chance_SA.tolist()
    assert len(play_group(recipe, task, decide, weights.chance_SA, rng, count=3).trajectories) == 3
