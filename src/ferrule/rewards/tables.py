"""Rewards for queries: whether the table of a written query is that of the expected one.

Source: "VerlTool: Towards Holistic Agentic Reinforcement Learning with Tool Use" (24).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ferrule.core.flows import Reward
from ferrule.core.records import Call, Score, Task, Tool, Trajectory, plain_text
from ferrule.rewards.format import replies_text
from ferrule.tools.invoke import invoke

__all__ = ["Execute", "Table", "by_tool", "same_table", "sql_reward"]

_SOLUTION = re.compile(r"<solution>(.*?)</solution>", re.DOTALL)
_THINK = re.compile(r"\s*<think>.*?</think>", re.DOTALL)

Table: TypeAlias = Sequence[Sequence[Any]]
Execute: TypeAlias = Callable[[Task, str], Table | None]
"""Runs a query of a task; None when it fails."""


def same_table(first: Table, second: Table) -> bool:
    """Say whether two tables hold the same rows, in any order, after some permutation of the columns."""
    if len(first) != len(second):
        return False
    widths = {len(row) for row in (*first, *second)}
    if len(widths) != 1:
        return not widths
    (width,) = widths
    ours, theirs = list(zip(*first, strict=True)), list(zip(*second, strict=True))

    def fits(chosen: tuple[int, ...]) -> bool:
        """Extend a choice of the other table's columns: the rows so far must agree as multisets."""
        rows = Counter(zip(*ours[: len(chosen)], strict=True))
        if chosen and rows != Counter(zip(*(theirs[i] for i in chosen), strict=True)):
            return False
        if len(chosen) == width:
            return True
        # Columns that are alike in every row are interchangeable: one of them stands for all.
        free = {theirs[i]: i for i in range(width) if i not in chosen}
        return any(fits((*chosen, i)) for i in free.values())

    return fits(())


def by_tool(build: Callable[[Task], Tool]) -> Execute:
    """Return an ``Execute`` that asks the SQL tool of a task (see ``ferrule.tools.sql.sql_tool``)."""

    def execute(task: Task, query: str) -> Table | None:
        tool = build(task)
        observation = invoke(tool, Call(tool.name, {"query": query}))
        data = observation.data
        rows: Table | None = data["rows"] if observation.status == "ok" and isinstance(data, dict) else None
        return rows

    return execute


def sql_reward(execute: Execute) -> Reward:
    """Return the SQL reward: -1 for a wrong form, else 1 when the result table equals that of ``task.answer``, else 0.

    The form is right when there is a ``<solution>`` and every reply with a call starts with ``<think>...</think>``;
    the last solution counts.
    """

    def reward(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        gold = execute(task, str(task.answer)) if trajectories else None
        return [_sql_score(execute, task, trajectory, gold) for trajectory in trajectories]

    return reward


def _sql_score(execute: Execute, task: Task, trajectory: Trajectory, gold: Table | None) -> Score:
    queries = _SOLUTION.findall(replies_text(trajectory))
    thought = all(_THINK.match(plain_text(turn.reply)) for turn in trajectory.turns if turn.reply.calls)
    if not queries or not thought:
        return Score(value=-1.0, parts={"outcome": 0.0, "format": 0.0})
    table = execute(task, queries[-1].strip())
    right = float(gold is not None and table is not None and same_table(table, gold))
    return Score(value=right, parts={"outcome": right, "format": 1.0})
