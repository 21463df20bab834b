from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.toys import Bench, layout, tiny_policy
from tests.train.pieces import LETTERS, Speller, draw, fixed, recipe, seeded

from ferrule.core.arrays import pack
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Observation, Reply, Score, Task, Trajectory, Turn
from ferrule.credit.group import broadcast
from ferrule.policies.heads import VALUE
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import Limits
from ferrule.train.sample import Batch, Group, credit, groups_of, sample, segments, stats

pytestmark = pytest.mark.usefixtures("one_thread")


def says(script: Any) -> Scripted:
    return Scripted(script, renderer=layout())


def by_sample(ask: Ask, sample: int) -> str:
    """Say "good" in about half of the episodes: decided by the ask's seed."""
    return "good" if ask.seed % 2 else "bad"


def goodness(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    return [Score(float(t.answer == "good"), parts={"outcome": float(t.answer == "good")}) for t in trajectories]


PLAIN = recipe(agent=Speller(tokens=20), reward=goodness)


def test_a_batch_holds_groups_in_the_order_of_the_tasks() -> None:
    batch = sample(PLAIN, draw, 3, LETTERS, says(by_sample))
    assert [g.task.id for g in batch.groups] == [t.id for t in draw(3)]
    assert batch.signals.group_N.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert batch.signals.episode_N.tolist() == list(range(12))
    assert batch.adv.shape == batch.signals.turn_NT.shape
    assert not batch.adv[batch.signals.turn_NT < 0].any()


def test_seeds_of_episodes_depend_on_seed_and_step() -> None:
    def seeds(**more: Any) -> set[int]:
        batch = sample(PLAIN, draw, 2, LETTERS, says(by_sample), **more)
        return {e.seed for g in batch.groups for e in g.episodes}

    assert seeds(seed=1, step=2) == seeds(seed=1, step=2)
    assert not seeds(seed=1, step=2) & seeds(seed=1, step=3)
    assert not seeds(seed=1, step=2) & seeds(seed=2, step=2)


def test_the_reward_may_name_the_step() -> None:
    def warming(task: Task, trajectories: Sequence[Trajectory], step: int) -> list[Score]:
        return [Score(float(step)) for _ in trajectories]

    batch = sample(replace(PLAIN, reward=warming), draw, 1, LETTERS, says(by_sample), step=7)
    assert batch.signals.reward_N.tolist() == [7.0] * 4
    assert batch.signals.step == 7


def test_a_reward_with_too_few_scores_is_named() -> None:
    with pytest.raises(ValueError, match="the reward gave 3 scores for 4 trajectories of 'train/0/0'"):
        sample(replace(PLAIN, reward=lambda task, ts: [Score(0.0)] * 3), draw, 1, LETTERS, says(by_sample))


def test_credit_of_the_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"credit returned shape \(4,\)"):
        sample(replace(PLAIN, credit=lambda reward_N: reward_N), draw, 1, LETTERS, says(by_sample))


def test_one_advantage_per_channel_is_allowed() -> None:
    def channels(reward_N: Any, turn_NT: Any) -> Any:
        one = broadcast(reward_N, turn_NT)
        return np.stack([one, 2 * one])

    batch = sample(replace(PLAIN, credit=channels), draw, 1, LETTERS, says(by_sample))
    assert batch.adv.shape == (2, *batch.signals.turn_NT.shape)


# ------------------------------------------------------------------------------------------------------- keep and refill


def test_dropped_groups_are_replaced_by_further_draws() -> None:
    """Groups 0 and 2 of the first draw are dropped; the second draw of two keeps both."""
    drawn: list[int] = []

    def numbered(count: int) -> list[Task]:
        first = sum(drawn)
        drawn.append(count)
        return [replace(t, id=str(first + i)) for i, t in enumerate(draw(count))]

    def keep(trajectories: Sequence[Trajectory], scores: Sequence[Score]) -> bool:
        return trajectories[0].task.id not in ("0", "2")

    batch = sample(replace(PLAIN, keep=keep, refill=2), numbered, 3, LETTERS, says(by_sample))
    assert drawn == [3, 2]
    assert [g.task.id for g in batch.groups] == ["1", "3", "4"]
    assert batch.dropped == 2
    assert stats(batch)["dropped"] == 2.0


def test_refilling_ends() -> None:
    drawn: list[int] = []

    def counted(count: int) -> list[Task]:
        drawn.append(count)
        return draw(count)

    written: list[int] = []

    def keep(trajectories: Sequence[Trajectory], scores: Sequence[Score]) -> bool:
        written.extend(t.sampled_count for t in trajectories)
        return False

    batch = sample(replace(PLAIN, keep=keep, refill=3), counted, 2, LETTERS, says(by_sample))
    assert drawn == [2, 2, 2, 2]
    assert (batch.groups, batch.dropped, batch.adv.shape) == ((), 8, (0, 0))
    assert len(written) == 32  # what was generated for dropped groups counts
    expected = {"groups": 0.0, "dropped": 8.0, "drifted": 0.0, "tokens/sampled": float(sum(written))}
    assert stats(batch) == expected


def test_tasks_that_nobody_solved_are_tried_again() -> None:
    """Task 0 is solved at the third try and task 1 never: one group of 12 beside one of 4, and 4 rounds in all."""
    asked: list[str] = []

    def later(ask: Ask, sample: int) -> str:
        asked.append(ask.messages[-1].content)  # type: ignore[arg-type]
        mine = asked.count(asked[-1])
        return "good" if asked[-1] == "train 0" and mine == 10 else "bad"

    def two(count: int) -> list[Task]:
        return [replace(t, prompt=f"train {i}") for i, t in enumerate(draw(count))]

    batch = sample(replace(PLAIN, retries=3), two, 2, LETTERS, says(later))
    assert [asked.count(f"train {i}") for i in range(2)] == [12, 16]
    assert batch.signals.group_N.tolist() == [0] * 12 + [1] * 4
    assert batch.signals.episode_N.tolist() == [*range(12), *range(12, 16)]
    assert batch.signals.reward_N.tolist() == [0.0] * 9 + [1.0] + [0.0] * 6
    assert [e.sample for e in batch.groups[0].episodes] == list(range(12))
    assert len({e.seed for e in batch.groups[0].episodes}) == 12
    # 27 times three letters and the end mark, once four: what was tried in vain counts as well.
    assert batch.sampled == 27 * 4 + 5
    assert stats(batch)["groups/mixed"] == 0.5
    with pytest.raises(ValueError, match=r"Recipe\.retries is -1; the least is 0"):
        replace(PLAIN, retries=-1)


def test_a_further_draw_of_the_same_task_gives_other_samples() -> None:
    seen: list[set[int]] = []

    def keep(trajectories: Sequence[Trajectory], scores: Sequence[Score]) -> bool:
        seen.append({t.turns[0].sampled[0] for t in trajectories})
        return False

    policy = tiny_policy()
    sample(recipe(agent=Speller(tokens=6), keep=keep, refill=1, num_generations=6), draw, 1, LETTERS, policy)
    assert len(seen) == 2
    assert seen[0] != seen[1]


# ---------------------------------------------------------------------------------------------------------------- drift


class Again(Scripted):
    """Makes the ids of a context again from its text, and writes the first reply so that it comes out differently."""

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        wrong = [replace(a, context=(), fresh=0) if a.seed % 3 == 0 else a for a in asks]
        return super().generate(wrong)


def test_drifted_episodes_are_kept_but_neither_scored_nor_trained_on() -> None:
    # Two blanks between the keys: read as a call and written again there is one.
    call = '<tool_call>{"name":  "write", "arguments": {"line": "x"}}</tool_call>'
    policy = Again(lambda ask, s: call, renderer=layout())
    batch = sample(recipe(agent=Speller(turns=2, tokens=90)), draw, 6, LETTERS, policy)
    episodes = [e for g in batch.groups for e in g.episodes]
    drifted = sum(e.drifted for e in episodes)
    assert 0 < drifted < len(episodes) == 24
    assert batch.drifted == drifted
    assert stats(batch)["drifted"] == drifted
    assert len(batch.signals.reward_N) == 24 - drifted
    for group in batch.groups:
        assert [i for i, e in enumerate(group.episodes) if not e.drifted] == list(group.owners)
        assert len(group.scores) == len(group.owners)


def test_a_group_whose_episodes_all_drifted_is_empty_and_harmless() -> None:
    class Always(Scripted):
        def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
            return [[replace(r, logps=(*r.logps, 0.0)) for r in rs] for rs in super().generate(asks)]

    batch = sample(PLAIN, draw, 2, LETTERS, Always(by_sample, renderer=layout()))
    assert batch.drifted == 8
    assert [len(g.trajectories) for g in batch.groups] == [0, 0]
    assert stats(batch)["drifted"] == 8.0
    kept = sample(
        replace(PLAIN, keep=lambda ts, ss: np.ptp([s.value for s in ss]) > 0), draw, 1, LETTERS,
        Always(by_sample, renderer=layout()),
    )  # fmt: skip
    assert kept.dropped == 1  # an empty group is dropped without asking ``keep``


def test_a_group_of_unequal_size_is_centred_on_its_own_mean() -> None:
    """Three trajectories 1, 0, 0 of one task, one of another: A = (2/3, -1/3, -1/3) and 0."""
    paths = fixed([[(1, 1)]] * 4)
    scores = [Score(1.0), Score(0.0), Score(0.0), Score(5.0)]
    groups = [
        Group(Task("a", "p"), (), tuple(paths[:3]), tuple(scores[:3]), (0, 1, 2)),
        Group(Task("b", "p"), (), tuple(paths[3:]), tuple(scores[3:]), (0,)),
    ]
    from ferrule.credit.group import group_relative

    batch = credit(recipe(credit=group_relative), groups, None)
    assert batch.adv[:, 1] == pytest.approx([2 / 3, -1 / 3, -1 / 3, 0.0])


def test_groups_of_plays_with_the_temperature_of_the_recipe() -> None:
    heats = set()

    def speak(ask: Ask, sample: int) -> str:
        heats.add(ask.temperature)
        return "x"

    groups_of(replace(PLAIN, temperature=0.6), draw(1), LETTERS, says(speak), limits=Limits(episodes=2))
    assert heats == {0.6}


# ------------------------------------------------------------------------------------------------------------- segments


def test_segments_end_with_their_last_model_token() -> None:
    """Rows: two turns in one segment; two turns in a segment each; no model tokens after the first turn."""
    paths = [*fixed([[(2, 1), (3, 2)]]), *fixed([[(2, 1), (3, 2)]], fold=True), *fixed([[(2, 3), (9, 0)]])]
    s = pack(paths, [Score(0.0)] * 3, [0] * 3)
    assert [(n, at.tolist()) for n, at in segments(s)] == [
        (0, list(range(8))),
        (1, [0, 1, 2]),
        (1, [3, 4, 5, 6, 7]),
        (2, [0, 1, 2, 3, 4]),
    ]


@pytest.mark.parametrize("fold", [False, True])
def test_the_reference_of_an_untouched_model_says_what_the_sampler_said(fold: bool) -> None:
    """With a rewritten context the model saw each segment alone, so each is scored alone."""
    policy = tiny_policy()
    policy.keep_reference()
    batch = sample(
        recipe(agent=Speller(turns=3, tokens=4, fold=fold), reference=True, temperature=0.7), draw, 2, LETTERS, policy
    )
    s = batch.signals
    assert (int(s.segment_NT.max()) == 1) is fold
    assert s.ref_NT is not None
    assert np.abs(s.ref_NT - s.logp_NT).max() < 1e-4
    assert not s.ref_NT[s.turn_NT < 0].any()


def test_values_are_those_of_each_segment_alone() -> None:
    from ferrule.credit.returns import gae, value_targets

    policy = tiny_policy()
    policy.add_head(VALUE)
    torch.nn.init.normal_(policy.heads["value"].weight, generator=torch.Generator().manual_seed(0))
    batch = sample(
        recipe(agent=Speller(turns=3, tokens=4, fold=True), credit=gae, critic=value_targets), draw, 1, LETTERS, policy
    )
    s = batch.signals
    assert s.value_NT is not None
    assert batch.target_NT is not None
    assert batch.target_NT.shape == s.turn_NT.shape
    for n, at in segments(s):
        alone = policy.values(s.ids_NT[n : n + 1, at], s.turn_NT[n : n + 1, at])
        assert np.abs(alone[0] - s.value_NT[n, at]).max() < 1e-5


# ---------------------------------------------------------------------------------------------------------------- stats


def test_stats_of_a_worked_batch() -> None:
    """Rewards 1, 0 | 0.5, 0.5: mean 0.5, population spread sqrt(0.125); one of two groups without spread."""

    def path(tokens: int, *statuses: str, finish: str = "answer") -> Trajectory:
        calls = tuple(Call("t", repairs=("comma",) if s == "error" else ()) for s in statuses)
        seen = tuple(Observation("", s, repairs=("number:a",) if s == "ok" else ()) for s in statuses)  # type: ignore[arg-type]
        turn = Turn(0, None, (1, 2), tuple(range(tokens)), (0.0,) * tokens, Message("assistant", "", calls), (), seen)
        return Trajectory(Task("t", "p"), (turn,), "x", finish)  # type: ignore[arg-type]

    paths = [path(1, "ok", "malformed"), path(2), path(3, "unknown_tool", "error"), path(2, finish="length")]
    scores = [Score(v, parts={"outcome": o}) for v, o in ((1.0, 1.0), (0.0, 0.0), (0.5, 1.0), (0.5, 0.0))]
    groups = [
        Group(Task(str(i), "p"), (), tuple(paths[2 * i : 2 * i + 2]), tuple(scores[2 * i : 2 * i + 2]), (0, 1))
        for i in range(2)
    ]
    found = stats(replace(credit(recipe(), groups, None), dropped=3, drifted=1, sampled=20))
    expected = {
        "reward/mean": 0.5,
        "reward/std": 0.125**0.5,
        "success": 0.5,
        "calls/mean": 0.5,  # ok and error ran: two calls in four episodes
        "attempts": 4.0,
        "malformed/share": 0.25,
        "unknown_tool/share": 0.25,
        "length/mean": 2.0,
        "turns/mean": 1.0,
        "tokens": 8.0,
        "tokens/sampled": 20.0,
        "groups": 2.0,
        "groups/zero_spread": 0.5,
        "groups/mixed": 1.0,  # one right and one wrong in each
        "dropped": 3.0,
        "drifted": 1.0,
        "repairs": 2.0,
        "cut_off/share": 0.25,
        "reward/outcome": 0.5,
    }
    assert found == pytest.approx(expected)


def test_success_is_told_by_the_verifier_where_the_reward_does_not_tell() -> None:
    """A reward of another scale: 2 for a wrong answer, -1 for a right one."""
    named, unnamed = Task("a", "p", answer="4", meta={"verifier": "numeric"}), Task("b", "p", answer="4")
    scores = (Score(2.0), Score(-1.0))
    told = {}
    for task in (named, unnamed):
        turn = Turn(0, None, (1,), (2,), (0.0,), Message("assistant", ""))
        paths = tuple(Trajectory(task, (turn,), answer) for answer in ("5", "4.0"))
        for k, score in enumerate(scores):
            group = Group(task, (), paths[k : k + 1], (score,), (0,))
            told[task.id, k] = stats(credit(recipe(), [group], None))["success"]
    assert told == {("a", 0): 0.0, ("a", 1): 1.0, ("b", 0): 1.0, ("b", 1): 0.0}


def test_an_agent_that_fails_at_once_leaves_an_empty_row() -> None:
    def broken(task: Task, session: Any) -> Any:
        raise RuntimeError("trouble")
        yield

    batch = sample(replace(PLAIN, agent=broken), draw, 1, Bench(), says(by_sample))
    assert isinstance(batch, Batch)
    assert stats(batch)["tokens"] == 0.0
    assert [e.problem for e in batch.groups[0].episodes] == ["agent raised RuntimeError: trouble"] * 4
    assert seeded(draw(1)[0], batch.groups[0].trajectories)[0].value == 0.0
