"""Rewards for queries: equal tables, and the form of an answer."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.contracts.checks import check_reward

from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn
from ferrule.rewards.tables import by_tool, same_table, sql_reward
from ferrule.tools.sql import sql_tool


def answered(task: Task, text: str, *calls: str) -> Trajectory:
    """One reply with a text and calls that these observations answer."""
    reply = Message("assistant", text, calls=tuple(Call("f") for _ in calls))
    turn = Turn(0, None, (9,), (1,), (-0.1,), reply, observations=tuple(map(Observation, calls)))
    return Trajectory(task, (turn,), answer="yes")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ([(1, "a"), (2, "b")], [("b", 2), ("a", 1)], True),
        ([(1, "a"), (2, "b")], [("a", 2), ("b", 1)], False),
        ([(1, 2), (2, 1)], [(1, 1), (2, 2)], False),
        ([(1,), (1,)], [(1,)], False),
        ([(1,), (1,), (2,)], [(1,), (2,), (2,)], False),
        ([(1, 1)], [(1,)], False),
        ([(1, 2, 3), (4, 5, 6)], [[6, 4, 5], [3, 1, 2]], True),
        ([], [], True),
        ([(None, 1.0)], [(1, None)], True),
        ([tuple(range(12))] * 3, [tuple(reversed(range(12)))] * 3, True),
        ([(0,) * 14 + (1,)], [(0,) * 14 + (2,)], False),
    ],
)
def test_tables_are_equal_up_to_their_columns(one: Any, other: Any, same: bool) -> None:
    assert same_table(one, other) is same
    assert same_table(other, one) is same


def test_sql_reward(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as base, base:
        base.executescript("CREATE TABLE t (a INTEGER, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y');")
    reward = sql_reward(by_tool(lambda task: sql_tool(path, rows=1000)))
    task = Task("q", "?", answer="SELECT a, b FROM t ORDER BY a")
    texts: Mapping[str, float] = {
        "<think>so</think><solution>SELECT b, a FROM t ORDER BY b DESC</solution>": 1.0,
        "<think>so</think><solution>SELECT a FROM t</solution>": 0.0,
        "<think>so</think><solution>SELECT nothing FROM nowhere</solution>": 0.0,
        "<solution>SELECT a, b FROM t</solution>": -1.0,
        "<think>so</think> no solution": -1.0,
    }
    for text, wanted in texts.items():
        assert [score.value for score in reward(task, [answered(task, text, "1")])] == [wanted], text
    (score,) = reward(task, [answered(task, "<solution>SELECT a, b FROM t</solution>")])
    assert score.value == 1.0
    check_reward(sql_reward(lambda task, query: [(len(query),)]))
