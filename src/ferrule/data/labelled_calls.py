"""Requests with the calls that answer them, from a file or from the reference solutions of a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ferrule.agents.contexts import LabelledCall
from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstrates
from ferrule.core.flows import World
from ferrule.core.records import Call, Task, Tool
from ferrule.tools.schema import violations
from ferrule.worlds.files import read_file

__all__ = ["demonstrated_calls", "read_calls"]

_QUERIES = ("query", "prompt", "question")


def read_calls(path: str | Path, tools: Sequence[Tool]) -> list[LabelledCall]:
    """Read rows with a request (``query``, ``prompt`` or ``question``) and its ``call`` (``name`` and ``arguments``).

    Raises ``ValueError`` naming the row that lacks one, or calls a tool or names an argument that there is not.
    """
    known = {tool.name: tool for tool in tools}
    return [_labelled(where, row, known) for where, row in read_file(Path(path)).rows]


def demonstrated_calls(world: World, tasks: Sequence[Task]) -> tuple[tuple[Tool, ...], list[LabelledCall]]:
    """Return the tools of tasks, and the prompt of each with the first call of its reference solution.

    Of tools of one name the first counts; tasks whose call does not fit it, or that have no call, are left out. Raises
    ``ValueError`` for a world without reference solutions.
    """
    if not isinstance(world, Demonstrates):
        raise ValueError(f"{world.name} has no reference solutions; give rows with calls instead")
    tools: dict[str, Tool] = {}
    labelled: list[LabelledCall] = []
    for task in tasks:
        with closing(world.start(task)) as session:
            for tool in session.tools:
                tools.setdefault(tool.name, tool)
        call = next(iter(world.demonstrate(task).calls), None)
        if call is not None and call.name in tools and not violations(call.arguments, tools[call.name].parameters):
            labelled.append(LabelledCall(task.prompt, call))
    return tuple(tools.values()), labelled


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
