"""Chains of look-ups and the worlds that play on them: prices, failures, a calculator, other names, no need at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from ferrule.core.flows import Session, World
from ferrule.core.records import Call, Task, Trajectory
from ferrule.rewards.outcome import outcome
from ferrule.worlds.apis import split_of
from ferrule.worlds.chains import Chains
from ferrule.worlds.experts import reference_calls
from ferrule.worlds.failing import Failing
from ferrule.worlds.priced import Priced
from ferrule.worlds.renamed import Renamed
from ferrule.worlds.two_tools import TwoTools
from ferrule.worlds.unneeded import Unneeded

LEVELS = (1, 2, 3, 4, 5)


def one(world: Any, level: int, seed: int = 0) -> Task:
    (task,) = world.tasks("test", 1, seed=seed, levels=(level,))
    assert isinstance(task, Task)
    return task


@contextmanager
def opened(world: World, task: Task) -> Iterator[Session]:
    session = world.start(task)
    yield session
    session.close()


def scored(task: Task, session: Session) -> float:
    return outcome(task, [Trajectory(task, (), task.answer, "answer", final=dict(session.final()))])[0].value


@pytest.mark.parametrize("level", LEVELS)
def test_the_level_of_a_chain_is_its_number_of_calls(level: int) -> None:
    for seed in range(20):
        task = one(Chains(), level, seed)
        calls = Chains().demonstrate(task).calls
        assert len(calls) == level
        with opened(Chains(), task) as session:
            assert len(session.tools) > level  # decoys
            for call, following in pairwise(calls):
                assert session.act(call).text == str(following.arguments["id"])
            assert session.act(calls[-1]).text == task.answer


@pytest.mark.parametrize("level", LEVELS)
def test_every_tool_belongs_to_the_split_of_its_task(level: int) -> None:
    for split in ("train", "test"):
        tasks = Chains().tasks(split, 60, seed=level, levels=(level,))
        names = {tool.name for task in tasks for tool in Chains().start(task).tools}
        assert len(names) > 15
        assert {split_of(*name.split("_")) for name in names} == {split}


def test_the_purse_pays_for_the_cheap_way_alone() -> None:
    world, task = Priced(), one(Priced(), 2)
    first, second = world.demonstrate(task).calls

    def dear(call: Call) -> Call:
        plain = call.name.removeprefix("fetch_")
        return replace(call, name=plain if plain != call.name else f"fetch_{plain}")

    with opened(world, task) as session:
        assert {tool.cost for tool in session.tools} == {1, 3}
        careless = session.fork()
        assert careless.act(dear(first)).text == "this costs 3 coins; the purse had 2 and is empty now"
        assert careless.act(first).status == "refused"  # to try the other way again is too late
        careless.close()
        assert session.act(first).status == "ok"
        branch = session.fork()
        assert branch.act(replace(second, arguments={"id": 1})).status == "error"  # leads nowhere, and is paid for
        assert branch.act(second).status == "refused"
        assert session.act(second).text == task.answer
        assert session.act(first).status == "refused"
        branch.close()


def test_names_of_priced_tools_do_not_tell_which_is_cheap() -> None:
    tasks = Priced().tasks("train", 100, levels=(1,))
    ways = [Priced().demonstrate(task).calls[0].name.startswith("fetch_") for task in tasks]
    assert 30 < ways.count(True) < 70
    places = [[tool.cost for tool in Priced().start(task).tools].index(1) for task in tasks]
    assert 30 < places.count(0) < 70


def test_a_call_that_failed_works_when_it_is_made_again() -> None:
    world = Failing(share=1.0)
    task = one(world, 2)
    call, same, second, _ = world.demonstrate(task).calls
    assert call == same
    with opened(world, task) as session:
        assert session.act(call).text == "RuntimeError: the service is busy, call again"
        branch = session.fork()
        assert session.act(call).text == branch.act(call).text == str(second.arguments["id"])
        branch.close()


def test_one_call_fails_at_least_and_half_of_them_by_the_usual_share() -> None:
    assert len(Failing(share=0.0).demonstrate(one(Failing(), 3)).calls) == 4
    extra = [len(Failing().demonstrate(task).calls) - 5 for task in Failing().tasks("train", 200, levels=(5,))]
    assert min(extra) == 1
    assert 2.2 < sum(extra) / 200 < 2.9  # 2.5, and the few tasks that would have none


@pytest.mark.parametrize("level", LEVELS)
def test_two_tools_are_needed(level: int) -> None:
    for seed in range(10):
        calls = TwoTools().demonstrate(one(TwoTools(), level, seed)).calls
        assert [call.name == "calculator" for call in calls].count(True) == 1
        assert (calls[0].name == "calculator") == (level < 4)
        assert len(calls) == {1: 2, 2: 2, 3: 3, 4: 2, 5: 3}[level]


def test_made_up_names_are_the_only_ones_and_stay() -> None:
    for world in (Renamed(), Renamed(of="chains", words="syllables")):
        task = one(world, 3)
        solution = world.demonstrate(task)
        with opened(world, task) as session:
            shown = [tool.name for tool in session.tools]
            assert not any("_" in name for name in shown)
            assert {call.name for call in solution.calls} <= set(shown)
            assert session.act(solution.calls[0]).status == "ok"
        assert [tool.name for tool in world.start(task).tools] == shown
        assert reference_calls(task) == solution.calls


def test_an_unneeded_call_spoils_a_right_answer() -> None:
    for level in LEVELS:
        task = one(Unneeded(), level)
        with opened(Unneeded(), task) as session:
            assert scored(task, session) == 1.0
            tool = session.tools[0]
            given: dict[str, Any] = {"expression": "1 + 1"} if tool.name == "calculator" else {"id": 1}
            session.act(Call("no such tool", {}))
            assert scored(task, session) == 1.0  # an attempt is no call
            session.act(Call(tool.name, given))
            assert scored(task, session) == 0.0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Priced(dear=1), "Priced.dear is 1; the least is 2"),
        (lambda: Failing(share=1.5), "Failing.share is 1.5; it must lie between 0 and 1"),
        (lambda: Renamed(of="chain"), "Renamed.of: .*did you mean 'chains'"),
        (lambda: Renamed(words="sylables"), "Renamed.words: .*did you mean 'syllables'"),
    ],
)
def test_settings_that_make_no_world_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
