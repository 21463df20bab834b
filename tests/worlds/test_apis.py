from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.toys import played

from ferrule.core.records import Call, Task, Trajectory
from ferrule.rewards.outcome import outcome
from ferrule.worlds.apis import Apis, split_of

LEVELS = (1, 2, 3, 4, 5)


def pairs_of(task: Task) -> set[tuple[str, str]]:
    """The (noun, field) pairs of a task's tools."""
    names = [tool.name.removeprefix("set_") for tool in Apis().start(task).tools if not tool.name.startswith("find_")]
    return {(noun, field) for noun, _, field in (name.partition("_") for name in names)}


def test_the_same_seed_gives_the_same_tasks() -> None:
    assert Apis().tasks("train", 20, seed=3) == Apis().tasks("train", 20, seed=3)
    assert Apis().tasks("train", 20, seed=3) != Apis().tasks("train", 20, seed=4)


def test_more_tasks_begin_with_fewer() -> None:
    assert Apis().tasks("test", 50, seed=1)[:7] == Apis().tasks("test", 7, seed=1)


@pytest.mark.parametrize("level", LEVELS)
def test_every_pair_of_noun_and_field_belongs_to_one_split(level: int) -> None:
    """All tools of a task count: those that solve it, decoys, and the second field that level 4 asks about."""
    for split in ("train", "test"):
        tasks = Apis().tasks(split, 150, seed=level, levels=(level,))
        found = {pair for task in tasks for pair in pairs_of(task)}
        assert len(found) > (80 if split == "train" else 20)
        assert {split_of(*pair) for pair in found} == {split}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("level", LEVELS)
def test_an_expert_solves_every_level_with_the_real_tools(level: int, split: str) -> None:
    world = Apis()
    for task in world.tasks(split, 40, seed=level, levels=(level,)):
        session = world.start(task)
        seen = played(session, Apis().demonstrate(task).rounds)
        assert [o.status for o in seen] == ["ok"] * len(seen)
        path = Trajectory(task, (), task.answer, final=session.final())
        assert outcome(task, [path])[0].value == 1.0
        assert seen[2 if level == 5 else -1].text == task.answer  # level 5 reads first, and then writes


@pytest.mark.parametrize("level", [4, 5])
def test_the_answer_alone_is_not_enough_where_something_must_change(level: int) -> None:
    (task,) = Apis().tasks("train", 1, levels=(level,))
    untouched = Trajectory(task, (), task.answer, final=Apis().start(task).final())
    assert outcome(task, [untouched])[0].value == 0.0


def test_decoys_stand_beside_what_is_needed() -> None:
    counts = {level: len(Apis().start(Apis().tasks("train", 1, levels=(level,))[0]).tools) for level in LEVELS}
    assert counts[1] == 2
    assert counts[2] >= 3
    assert min(counts[3], counts[4], counts[5]) >= 3


def test_names_of_tools_are_not_in_a_telling_order() -> None:
    """The needed tool comes first in some tasks and last in others."""
    places = set()
    for task in Apis().tasks("train", 40, levels=(1,)):
        ((call,),) = Apis().demonstrate(task).rounds
        places.add([t.name for t in Apis().start(task).tools].index(call.name))
    assert places == {0, 1}


def test_a_fork_has_its_own_tables_and_budget() -> None:
    world = Apis(calls=2)
    (task,) = world.tasks("train", 1, levels=(4,))
    change, read = (calls[0] for calls in Apis().demonstrate(task).rounds)
    session = world.start(task)
    twin = session.fork()
    twin.act(change)
    assert twin.final() == {"changes": task.meta["state"]["changes"]}
    assert session.final() == {"changes": {}}
    assert [twin.act(read).status for _ in range(2)] == ["ok", "refused"]
    assert session.act(read).status == "ok"
    assert session.fork().act(read).status == "ok"


def test_what_a_session_reports_does_not_change_under_the_readers_hands() -> None:
    (task,) = Apis().tasks("train", 1, levels=(4,))
    session = Apis().start(task)
    before: Any = session.final()
    session.act(Apis().demonstrate(task).rounds[0][0])
    assert before == {"changes": {}}


def test_sessions_of_one_task_do_not_share_state() -> None:
    (task,) = Apis().tasks("train", 1, levels=(4,))
    first, second = Apis().start(task), Apis().start(task)
    first.act(Apis().demonstrate(task).rounds[0][0])
    assert second.final() == {"changes": {}}


@pytest.mark.parametrize("arguments", [{"id": 1}, {"id": -1}, {"id": 10**9}])
def test_an_entry_that_does_not_exist_is_an_error_the_model_can_read(arguments: Any) -> None:
    (task,) = Apis().tasks("train", 1, levels=(1,))
    ((call,),) = Apis().demonstrate(task).rounds
    seen = Apis().start(task).act(Call(call.name, arguments))
    assert seen.status == "error"
    assert re.search(r"no entry \w+\.-?\d+\.\w+", seen.text)


def test_the_same_task_without_tools() -> None:
    (task,) = Apis().tasks("train", 1)
    session = Apis().start(replace(task, tools=()))
    assert session.tools == ()
    assert played(session, Apis().demonstrate(task).rounds)[0].status == "unknown_tool"


def test_unknown_splits_and_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="valid: train, test"):
        Apis().tasks("dev", 1)
    with pytest.raises(ValueError, match="valid levels"):
        Apis().tasks("train", 1, levels=(0,))


def test_a_world_of_one_level() -> None:
    """Tasks of that level are the same ones as without; other levels alone, or an unknown one, are refused."""
    chosen = Apis(level=3)
    assert chosen.tasks("train", 3, seed=5) == Apis().tasks("train", 3, seed=5, levels=(3,))
    with pytest.raises(ValueError, match=r"levels are \[1, 2\]; the world 'apis' has level 3 alone"):
        chosen.tasks("train", 3, levels=(1, 2))
    with pytest.raises(ValueError, match=r"Apis.level is 6; it is one of 1, 2, 3, 4, 5, or 0 for all"):
        Apis(level=6)
