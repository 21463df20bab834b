"""Requests with the calls that answer them, from a file or from the reference solutions of a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ferrule.agents.contexts import LabelledCall
from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstrates
from ferrule.core.records import Call, Task, Tool
from ferrule.worlds.files import read_file

__all__ = ["demonstrated_calls", "read_calls"]

_QUERIES = ("query", "prompt", "question")


def read_calls(path: str | Path, tools: Sequence[Tool]) -> list[LabelledCall]:
    """Read rows with a request (``query``, ``prompt`` or ``question``) and its ``call`` (``name`` and ``arguments``).

    Raises ``ValueError`` naming the row that lacks one, or calls a tool or names an argument that there is not.
    """
    known = {tool.name: tool for tool in tools}
    return [_labelled(where, row, known) for where, row in read_file(Path(path)).rows]


def demonstrated_calls(world: Demonstrates, tasks: Sequence[Task]) -> list[LabelledCall]:
    """Return the prompt of each task with the first call of its reference solution, where it has one."""
    calls = [(task.prompt, world.demonstrate(task).calls) for task in tasks]
    return [LabelledCall(prompt, made[0]) for prompt, made in calls if made]


def _labelled(where: str, row: Mapping[str, Any], known: Mapping[str, Tool]) -> LabelledCall:
    query = next((row[field] for field in _QUERIES if isinstance(row.get(field), str)), None)
    call = row.get("call")
    if query is None or not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        raise ValueError(f"{where}: a request ({', '.join(_QUERIES)}) and a call with a name are needed")
    name, arguments = call["name"], call.get("arguments") or {}
    if name not in known:
        raise ValueError(f"{where}: unknown tool {name!r}; {nearest(name, list(known))}")
    declared = list(known[name].parameters.get("properties", {}))
    for argument in arguments:
        if argument not in declared:
            raise ValueError(f"{where}: {name} has no argument {argument!r}; {nearest(argument, declared)}")
    return LabelledCall(query, Call(name, dict(arguments)))
