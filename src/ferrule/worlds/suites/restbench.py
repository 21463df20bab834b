"""RestBench: which endpoints of a web API answer a request, in which order?

Every endpoint of the OpenAPI description is a tool. Nothing is sent: a call returns the example of the description, or
values that fit its schema. An episode is right when the endpoints of the reference were called in its order, others in
between not counted against it.

Source: "RestGPT: Connecting Large Language Models with Real-World RESTful APIs", https://arxiv.org/abs/2306.06624
(correct path); data: https://github.com/Yifan-Song793/RestGPT (MIT).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Task, Tool
from ferrule.tools.budget import Budget
from ferrule.tools.openapi_document import operations, path_name
from ferrule.tools.placeholder import placeholder
from ferrule.tools.schema import resolve
from ferrule.worlds.files import Row, read_file
from ferrule.worlds.rows import divided
from ferrule.worlds.session import ToolSession
from ferrule.worlds.suites.origins import find
from ferrule.worlds.suites.suite import Suite

__all__ = ["APIS", "restbench"]

APIS = ("tmdb", "spotify")
"""The web APIs."""
_CALLS, _TURNS = 40, 12


def restbench(
    api: str, *, data: str | Path | None = None, documents: Mapping[str, str] | None = None, name: str = ""
) -> Suite:
    """Return ``tmdb`` or ``spotify`` as a world; ``data`` is a folder, or a file of rows beside the description.

    ``documents`` say what each endpoint does, by the name of its tool, in place of the description: endpoints without
    one are not on offer, and tasks that need such a one are left out. ``name`` is that of the world.

    A row has ``query`` and ``solution``, the endpoints in their order (``"GET /search/movie"``). A file of rows is
    divided by its prompts (a fifth is ``test``). Raises ``ValueError`` for an unknown API and invalid rows,
    ``FileNotFoundError`` where there is no data.
    """
    if api not in APIS:
        raise ValueError(f"RestBench has no API {api!r}; {nearest(api, APIS)}")
    own = Path(data) if data is not None and Path(data).is_file() else None
    where = own.parent if own else data
    described = find("restbench", (f"{api}_oas.json", f"specs/{api}_oas.json"), where)
    endpoints = tuple(_endpoints(json.loads(described.read_text(encoding="utf-8"))))
    if documents is not None:
        endpoints = tuple(
            replace(e, tool=replace(e.tool, description=documents[e.tool.name]))
            for e in endpoints
            if e.tool.name in documents
        )
    path = own or find("restbench", (f"{api}.json", f"{api}_even.json", f"datasets/{api}.json"), where)
    known = {endpoint.key: endpoint.tool.name for endpoint in endpoints}
    name = name or f"restbench:{api}"
    rows = [(number, *placed) for number, placed in enumerate(read_file(path).rows)]
    if documents is not None:
        rows = [row for row in rows if all(_key(step) in known for step in row[2].get("solution") or ())]
    tasks = tuple(_task(name, *row, known) for row in rows)
    return Suite(name, divided(tasks) if own else {"test": tasks}, partial(_open, endpoints), _solve)


@dataclass(frozen=True)
class _Endpoint:
    """An endpoint as a tool, under the key by which references name it."""

    key: str
    tool: Tool


@dataclass
class _Called:
    """The tools that were called, in order."""

    names: list[str] = field(default_factory=list)


def _key(text: str) -> str:
    """Return ``GET /movie/{}`` for ``GET /movie/{movie_id}``: names of path parameters do not count."""
    verb, _, path = text.strip().partition(" ")
    return f"{verb.upper()} {re.sub(r'{[^}]*}', '{}', path.strip())}"


def _endpoints(spec: Mapping[str, Any]) -> Iterator[_Endpoint]:
    for operation in operations(spec):
        entry = operation.entry
        verb, path = operation.method, operation.path
        spoken = f"{verb.upper()} {path}: {entry.get('description') or entry.get('summary') or ''}".strip()
        run = partial(_answer, _example(entry, spec))
        yield _Endpoint(_key(f"{verb} {path}"), Tool(path_name(operation), spoken, operation.parameters, run))


def _example(entry: Row, spec: Mapping[str, Any]) -> Any:
    """Return what an endpoint answers: the example of its description, else values that fit its schema."""
    answers = entry.get("responses", {})
    fine: Row = next((answers[code] for code in sorted(answers) if code.startswith("2")), {})
    content = resolve(fine, spec).get("content", {}).get("application/json", {})
    for example in (content.get("examples") or {}).values():
        return resolve(example, spec).get("value")
    return content["example"] if "example" in content else placeholder(content.get("schema", {}), spec)


def _answer(example: Any, **given: Any) -> Any:
    return example


def _task(name: str, number: int, where: str, row: Row, known: Mapping[str, str]) -> Task:
    for field_name in ("query", "solution"):
        if not row.get(field_name):
            raise ValueError(f"{where}: no field {field_name!r}; {nearest(field_name, list(row))}")
    keys = [_key(step) for step in row["solution"]]
    for key in keys:
        if key not in known:
            raise ValueError(f"{where}: no endpoint {key!r}; {nearest(key, list(known))}")
    wanted = [known[key] for key in keys]
    meta = {"turns": _TURNS, "wanted": wanted, "state": {"right": True}}
    return Task(f"{name}/{number}", row["query"], world=name, meta=meta)


def _open(endpoints: Sequence[_Endpoint], task: Task) -> Session:
    def build(called: _Called) -> tuple[Tool, ...]:
        def run(tool: Tool, **given: Any) -> Any:
            called.names.append(tool.name)
            return tool.run(**given)

        return tuple(
            Tool(tool.name, tool.description, tool.parameters, partial(run, tool), effects="write")
            for tool in (endpoint.tool for endpoint in endpoints)
        )

    def final(called: _Called) -> Mapping[str, Any]:
        left = iter(called.names)
        return {"right": all(name in left for name in task.meta["wanted"]), "called": list(called.names)}

    return ToolSession(task, build, _Called(), budget=Budget(total=_CALLS), final=final)


def _solve(task: Task) -> Demonstration:
    raise ValueError(f"the reference of task {task.id!r} names endpoints without arguments")
