"""Collection that stops early: when it is enough, what becomes of the rest, and groups of unequal size."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from tests.toys import Bench, layout

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.recipe import vary
from ferrule.core.records import Reply, Tool
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import Limits, adrive, drive
from ferrule.rollout.enough import most_of
from ferrule.rollout.record import Episode
from ferrule.rollout.run import CALLED_OFF
from ferrule.train.grpo import grpo
from ferrule.train.sample import credit, groups_of

Driver = Callable[..., list[Episode]]
WRITE = '<tool_call>{"name":"write","arguments":{"line":"x"}}</tool_call>'
LOOP = ToolLoop(turns=40)


def under_asyncio(*args: Any, **more: Any) -> list[Episode]:
    return asyncio.run(adrive(*args, **more))


@pytest.fixture(params=[drive, under_asyncio], ids=["batched", "asyncio"])
def driver(request: pytest.FixtureRequest) -> Driver:
    return request.param  # type: ignore[no-any-return]


def straggler() -> Scripted:
    """Answers at once, but for one episode of ``task 1``, which calls for as long as it is let."""
    begun: list[str] = []

    def speak(ask: Ask, sample: int) -> str:
        prompt = str(ask.messages[0].content)
        if len(ask.messages) > 1 or (prompt == "task 1" and not begun):
            begun.append(prompt)
            return WRITE
        return "yes"

    return Scripted(speak, renderer=layout())


@pytest.mark.parametrize(
    ("ended", "stops"),
    [
        ([6] * 36 + [0] * 4, False),  # 216 of 240 are nine in ten, but four tasks have none
        ([6] * 16 + [5] * 24, True),  # 96 + 120 = 216, and 5 of 6 are more than three in four
        ([6] * 16 + [5] * 23 + [4], False),  # 215
        ([6] * 39 + [4], False),  # 4 of 6 are .67
        ([6] * 40, True),
    ],
)
def test_when_it_is_enough(ended: Sequence[int], stops: bool) -> None:
    """Forty tasks with six rollouts each: at least 216 of all, and at least 4.5, so 5, of each."""
    assert most_of(ended, 6) is stops


@pytest.mark.parametrize("bad", [{"share": 1.1}, {"per_task": -0.1}])
def test_shares_are_checked(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        most_of([1], 1, **bad)


def test_the_rest_is_called_off(driver: Driver) -> None:
    """Seven of eight episodes end at once; the eighth would make 40 calls, and is discarded with what it wrote."""
    world = Bench(calls=100)
    taken: dict[int, Episode] = {}
    episodes = driver(
        LOOP, world.tasks("train", 2), world, straggler(), num_generations=4,
        take=taken.__setitem__, enough=partial(most_of, share=0.8),
    )  # fmt: skip
    assert [episodes[i] for i in range(8)] == [taken[i] for i in range(8)]
    (late,) = [episode for episode in episodes if episode.problem]
    assert (late.task.prompt, late.problem) == ("task 1", CALLED_OFF)
    assert [path.finish for path in late.trajectories] == ["discarded"]
    assert 1 <= len(late.trajectories[0].turns) < 5
    assert late.sampled_count > 0
    assert [path.answer for episode in episodes if episode is not late for path in episode.trajectories] == ["yes"] * 7
    assert [state.closed for state in world.states] == [1] * 8


def test_episodes_that_never_began_are_called_off_too(driver: Driver) -> None:
    """Two live at a time, and two ended ones are enough; of the rest at most one had begun and opened a session."""
    world = Bench()
    episodes = driver(
        LOOP, world.tasks("train", 1), world, straggler(), num_generations=6, limits=Limits(episodes=2),
        enough=lambda ended, samples: sum(ended) >= 2,
    )  # fmt: skip
    opened = len(world.states)
    assert opened in (2, 3)
    assert [bool(episode.problem) for episode in episodes[:2] + episodes[3:]] == [False, False, True, True, True]
    assert all(path.finish == "discarded" for episode in episodes[3:] for path in episode.trajectories)
    assert [episode.seed for episode in episodes] == [
        episode.seed for episode in drive(LOOP, world.tasks("train", 1), world, straggler(), num_generations=6)
    ]
    assert len(world.states) == opened + 6


class Streamed:
    """A policy whose stream answers all that waits."""

    def __init__(self, inner: Scripted) -> None:
        self.inner = inner
        self.waiting: list[tuple[int, Ask]] = []

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        return self.inner.generate(asks)

    def stream(self) -> Streamed:
        return self

    def begin(self, asks: Sequence[tuple[int, Ask]]) -> None:
        self.waiting += asks

    def advance(self) -> list[tuple[int, list[Reply]]]:
        asks, self.waiting = self.waiting, []
        return [(number, self.generate([ask])[0]) for number, ask in asks]

    def close(self) -> None:
        self.waiting = []


def test_calls_under_way_are_not_waited_for_and_others_not_made() -> None:
    """Two of four end; the third waits in a tool for the end of the collection, the fourth for a place to call from."""
    over, waited, begun = threading.Event(), list[bool](), list[int]()

    def hold() -> str:
        begun.append(1)
        waited.append(over.wait(5.0))
        return "late"

    def speak(ask: Ask, sample: int) -> str:
        if len(ask.messages) > 1:
            return "yes"
        asked.append(1)
        return WRITE if len(asked) <= 2 else '<tool_call>{"name":"hold","arguments":{}}</tool_call>'

    asked: list[int] = []
    world = Bench((Tool("hold", "waits", {"type": "object", "properties": {}}, run=hold),))
    told: list[tuple[int, int]] = []
    episodes = drive(
        LOOP, world.tasks("train", 1), world, Streamed(Scripted(speak, renderer=layout())), num_generations=4,
        limits=Limits(calls=1), done=lambda *counts: told.append(counts), enough=partial(most_of, share=0.5, per_task=0.5),
    )  # fmt: skip
    assert [episode.problem for episode in episodes] == ["", "", CALLED_OFF, CALLED_OFF]
    assert (waited, told[-1]) == ([], (4, 4))
    assert [state.closed for state in world.states] == [1, 1, 0, 0]
    over.set()
    for _ in range(500):
        if all(state.closed for state in world.states):
            break
        time.sleep(0.01)
    assert [state.closed for state in world.states] == [1] * 4
    assert (begun, waited) == ([1], [True])


def test_without_a_rule_all_are_waited_for(driver: Driver) -> None:
    world = Bench(calls=100)
    episodes = driver(LOOP, world.tasks("train", 2), world, straggler(), num_generations=4)
    assert [len(episode.trajectories[0].turns) for episode in episodes].count(40) == 1
    assert not any(episode.problem for episode in episodes)


def test_groups_may_differ_in_size_and_their_tokens_count() -> None:
    """The late episode is no member of its group (3 instead of 4), and what it wrote is still paid for."""
    world = Bench(calls=100)
    recipe = vary(grpo(num_generations=4), agent=LOOP, enough=partial(most_of, share=0.8))
    groups = groups_of(recipe, world.tasks("train", 2), world, straggler())
    assert [len(group.scores) for group in groups] == [4, 3]
    assert [len(group.episodes) for group in groups] == [4, 4]
    batch = credit(recipe, groups, None)
    assert len(batch.signals.reward_N) == 7
    assert sum(episode.sampled_count for group in groups for episode in group.episodes) > int(
        (batch.signals.turn_NT >= 0).sum()
    )
