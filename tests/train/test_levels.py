"""Groups on two levels: what is handed down, what comes back up, and how both are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from tests.toys import Bench, layout
from tests.train.pieces import recipe

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.records import Score, Task, Trajectory, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.train.levels import two_levels
from ferrule.train.sample import Group, credit

WORLD = Bench(answer="good")


def speak(request: Ask, sample: int) -> str:
    """Plans are good or bad by the seed; a good plan is executed well."""
    said = plain_text(request.messages[-1])
    if said.startswith("task"):
        return ("good plan", "bad plan", "none")[request.seed % 3]
    return "good" if said.startswith("good") else "bad"


def down(task: Task, trajectory: Trajectory) -> Task | None:
    return None if trajectory.answer == "none" else replace(task, prompt=str(trajectory.answer))


def up(task: Task, trajectories: Sequence[Trajectory], groups: Sequence[Group | None]) -> list[Score]:
    return [Score(sum(s.value for s in g.scores) / len(g.scores) if g else -1.0) for g in groups]


def right(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    return [Score(float(t.answer == task.answer)) for t in trajectories]


def refused(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    raise AssertionError("the parents' own reward is not asked")


PARENT = recipe(agent=ToolLoop(turns=1), reward=refused, num_generations=4)
CHILD = recipe(agent=ToolLoop(turns=1), reward=right, num_generations=3)
PLAY = partial(two_levels, PARENT, CHILD, world=WORLD, hand_down=down, hand_up=up)


def test_parents_are_scored_by_their_children() -> None:
    levels = PLAY(tasks=WORLD.tasks("train", 6), policy=Scripted(speak))
    assert [len(g.trajectories) for g in levels.parents] == [4] * 6
    assert {len(g.trajectories) for g in levels.children} == {3}
    worth = {"good plan": 1.0, "bad plan": 0.0, "none": -1.0}
    scored = [(t.answer, s.value) for g in levels.parents for t, s in zip(g.trajectories, g.scores, strict=True)]
    assert {answer for answer, _ in scored} == set(worth)
    assert all(value == worth[str(answer)] for answer, value in scored)
    for (i, j), child in zip(levels.of, levels.children, strict=True):
        assert child.task.prompt == levels.parents[i].trajectories[j].answer
        assert child.task.id == levels.parents[i].task.id


def test_siblings_with_the_same_plan_play_different_episodes() -> None:
    levels = PLAY(tasks=WORLD.tasks("train", 3), policy=Scripted(speak))
    seeds = [e.seed for g in (*levels.parents, *levels.children) for e in g.episodes]
    assert len(seeds) == len(set(seeds))
    again = PLAY(tasks=WORLD.tasks("train", 3), policy=Scripted(speak))
    assert levels == again
    other = PLAY(tasks=WORLD.tasks("train", 3), policy=Scripted(speak), seed=1)
    assert {e.seed for g in other.children for e in g.episodes}.isdisjoint(seeds)


def test_tasks_of_a_second_pass_differ_from_those_of_the_first() -> None:
    tasks = WORLD.tasks("train", 1)
    second = [replace(t, meta={"pass": 1}) for t in tasks]
    seeds = [
        {e.seed for g in PLAY(tasks=own, policy=Scripted(speak)).children for e in g.episodes}
        for own in (tasks, second)
    ]
    assert seeds[0].isdisjoint(seeds[1])


def test_no_children_at_all() -> None:
    levels = PLAY(tasks=WORLD.tasks("train", 2), policy=Scripted(lambda a, s: "none"))
    assert (levels.children, levels.of) == ((), ())
    assert [s.value for g in levels.parents for s in g.scores] == [-1.0] * 8
    empty = PLAY(tasks=[], policy=Scripted(speak))
    assert (empty.parents, empty.children) == ((), ())


def test_a_hand_up_with_too_few_scores_is_named() -> None:
    with pytest.raises(ValueError, match="hand_up gave 1 scores for 4 trajectories of 'train/0/0'"):
        PLAY(tasks=WORLD.tasks("train", 1), policy=Scripted(speak), hand_up=lambda t, ts, gs: [Score(0.0)])


def test_the_step_reaches_the_reward_of_the_children() -> None:
    def stepped(task: Task, trajectories: Sequence[Trajectory], step: int) -> list[Score]:
        return [Score(float(step)) for _ in trajectories]

    levels = two_levels(
        PARENT, replace(CHILD, reward=stepped), WORLD.tasks("train", 2), WORLD, Scripted(lambda a, s: "plan"),
        hand_down=down, hand_up=up, step=7,
    )  # fmt: skip
    assert {s.value for g in levels.parents for s in g.scores} == {7.0}
    assert {g.step for g in (*levels.parents, *levels.children)} == {7}


def test_both_levels_are_credited_with_their_own_recipe() -> None:
    levels = PLAY(tasks=WORLD.tasks("train", 4), policy=Scripted(speak, renderer=layout()))
    above, below = credit(PARENT, levels.parents, None), credit(CHILD, levels.children, None)
    assert above.signals.group_N.tolist() == [i for i in range(4) for _ in range(4)]
    assert below.signals.group_N.tolist() == [i for i in range(len(levels.children)) for _ in range(3)]
    assert above.adv.any()
    assert not below.adv.any()  # children of one plan do the same here: nothing to compare


def test_roles_may_have_a_policy_each() -> None:
    asked: dict[str, int] = {"solver": 0, "planner": 0}

    def counting(name: str) -> Any:
        def speaker(request: Ask, sample: int) -> str:
            asked[name] += 1
            return speak(request, sample)

        return Scripted(speaker)

    parent = replace(PARENT, agent=ToolLoop(turns=1, role="planner"), role="planner")
    levels = two_levels(
        parent, CHILD, WORLD.tasks("train", 2), WORLD, {name: counting(name) for name in asked},
        hand_down=down, hand_up=up,
    )  # fmt: skip
    assert asked == {"planner": 8, "solver": 3 * len(levels.children)}
    assert {t.role for g in levels.parents for t in g.trajectories} == {"planner"}
    assert {t.role for g in levels.children for t in g.trajectories} == {"solver"}
