"""Invariant 3: a reward may read the answer and the tool records, never observation text as the answer, nor the prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from tests.contracts.checks import rewards
from tests.toys import WORLDS, expert, layout

from ferrule.agents.react import ToolLoop
from ferrule.core.demonstration import Demonstration
from ferrule.core.marks import exemptions
from ferrule.core.records import Call, Message, Score, Task, Trajectory
from ferrule.policies.scripted import Scripted
from ferrule.rewards.combine import weighted
from ferrule.rewards.efficiency import overlong
from ferrule.rewards.format import format_reward
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive

SOLVED: dict[str, Callable[[Task], Demonstration]] = {
    **{name: world.demonstrate for name, world in WORLDS.items() if name != "user"},  # type: ignore[attr-defined]
    "user": lambda task: Demonstration(((Call("calculator", {"expression": "1 + 1"}),),)),
}
REWARDS: dict[str, Any] = {
    "outcome": outcome,
    "format": format_reward,
    "weighted": weighted({"outcome": (outcome, 1.0), "format": (format_reward, 0.1)}),
    "overlong": partial(overlong, longest=64, buffer=32),
}


def played(world: str, level: int, wrong: bool) -> tuple[Task, Trajectory]:
    """An episode in which an expert calls the tools and then answers, rightly or wrongly."""
    (task,) = WORLDS[world].tasks("train", 1, levels=(level,))
    speak = expert(replace(task, answer="-31337") if wrong else task, SOLVED[world](task).rounds)
    (episode,) = drive(ToolLoop(), [task], WORLDS[world], Scripted(speak, renderer=layout()))
    return task, episode.trajectories[0]


def observed(path: Trajectory, text: str) -> Trajectory:
    """The same path, with other observation text (and the messages that show it)."""
    turns = []
    for turn in path.turns:
        seen = tuple(replace(o, text=text) for o in turn.observations)
        shown = tuple(replace(m, content=text) if m.role == "tool" else m for m in turn.messages)
        turns.append(replace(turn, observations=seen, messages=shown))
    return replace(path, turns=tuple(turns))


def prompted(path: Trajectory, text: str) -> Trajectory:
    """The same path of a task with another prompt."""
    first = replace(path.turns[0], messages=(Message("user", text),))
    return replace(path, task=replace(path.task, prompt=text), turns=(first, *path.turns[1:]))


@pytest.mark.parametrize("wrong", [False, True], ids=["right", "wrong"])
@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize(("world", "level"), [(w, n) for w in WORLDS for n in (1, 2, 4)])
def test_invariant_03_what_the_tools_and_the_prompt_say_earns_nothing(
    world: str, level: int, reward: str, wrong: bool
) -> None:
    """Observations and prompts that shout the answer (or the wrong one) leave every score as it was."""
    task, path = played(world, level, wrong)
    assert path.calls
    (before,) = REWARDS[reward](task, [path])
    if reward == "outcome":
        assert before.value == (0.0 if wrong else 1.0)
    gold = str(task.answer)
    for text in (gold, f"The answer is {gold}.", f"\\boxed{{{gold}}}", "-31337", ""):
        assert REWARDS[reward](task, [observed(path, text)])[0] == before
        changed = prompted(path, text)
        assert REWARDS[reward](changed.task, [changed])[0] == before


@pytest.mark.parametrize("world", WORLDS)
def test_invariant_03_no_answer_scores_nothing_even_if_a_tool_said_it(world: str) -> None:
    task, path = played(world, 1, False)
    assert outcome(task, [replace(observed(path, str(task.answer)), answer=None)])[0].value == 0.0


@pytest.mark.parametrize("name", rewards("ferrule.rewards", "ferrule.papers"))
def test_invariant_03_every_reward_of_the_package_is_blind_or_says_that_it_is_not(name: str) -> None:
    """On episodes of a real world, and not only on the examples of the contract suite."""
    reward = rewards("ferrule.rewards", "ferrule.papers")[name]
    task, right = played("arithmetic", 2, False)
    _, wrong = played("arithmetic", 2, True)
    group = [right, wrong, replace(right, turns=right.turns[-1:])]
    changed = [observed(path, f"It is {task.answer}") for path in group]
    if "blind" not in exemptions(reward):
        assert list(reward(task, group)) == list(reward(task, changed))


def test_invariant_03_a_reward_that_looks_is_found_out() -> None:
    def looking(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        return [Score(float(any(str(task.answer) in o.text for _, o in t.calls))) for t in trajectories]

    task, path = played("arithmetic", 2, True)
    assert looking(task, [observed(path, "")]) != looking(task, [observed(path, str(task.answer))])
