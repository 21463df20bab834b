"""The tests of Simulated Trial and Error: one call of one API, judged as well-formed, of the right API, and right.

A call is right when it names the API and every argument of the reference has an equal value as text, without case and
outer spaces; further arguments do not count against it. The paper has a model judge the arguments of 19 of the 50 APIs;
here all are compared as texts. Nothing is sent.

Source: "LLMs in the Imaginarium: Tool Learning through Simulated Trial and Error", https://arxiv.org/abs/2403.04746;
data: https://github.com/microsoft/simulated-trial-and-error (MIT).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.records import Call, Task
from ferrule.worlds.files import Row, read_file
from ferrule.worlds.rows import divided
from ferrule.worlds.suites.bfcl import Judged
from ferrule.worlds.suites.origins import find
from ferrule.worlds.suites.suite import Suite

__all__ = ["described", "ste", "tool_name"]

_TYPES = {"string": "string", "integer": "integer", "number": "number", "float": "number", "boolean": "boolean"}


def ste(*, data: str | Path | None = None) -> Suite:
    """Return the tests of STE as a world; ``data`` is a folder, or a file of rows.

    A row has ``query``, ``API_name_list`` and ``api_descriptions`` (what is on offer), ``action`` and ``action_input``
    (the right call). ``final()`` says whether a call was ``wellformed`` (of the first one, answering without a call
    counts as not), whether it ``matched`` the API, and whether it is ``right``. A file is divided by its prompts (a
    fifth is ``test``). Raises ``ValueError`` for invalid rows, ``FileNotFoundError`` where there is no data.
    """
    own = data is not None and Path(data).is_file()
    names = ("tool_test*.jsonl", "tool_test*.json", "llama-recipes/ft_datasets/tool_test.json")
    path = Path(str(data)) if own else find("ste", names, data)
    tasks = tuple(_task(number, *placed) for number, placed in enumerate(read_file(path).rows))
    return Suite("ste", divided(tasks) if own else {"test": tasks}, partial(Judged, judge=_judge), _solve)


def tool_name(api: str) -> str:
    """Return the name of an API in the characters of tool names."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", api).strip("_")[:64]


def described(text: str) -> list[dict[str, Any]]:
    """Return the schemas of APIs from their descriptions as a row has them, one ``API_name: ...`` after the other."""
    return [_schema(part) for part in re.split(r"(?m)^API_name: ", text) if part.strip()]


def _schema(part: str) -> dict[str, Any]:
    name, _, about = part.partition("\nDescription: ")
    properties: dict[str, Any] = {}
    required: list[str] = []
    try:
        document = json.loads(about)
    except ValueError:
        document = None
    if isinstance(document, Mapping):
        for field in ("required_parameters", "optional_parameters"):
            for entry in document.get(field, ()):
                kind = _TYPES.get(str(entry.get("type", "")).lower(), "string")
                properties[entry["name"]] = {"type": kind, "description": str(entry.get("description", ""))}
                required += [entry["name"]] if field == "required_parameters" else []
        about = f"{document.get('parent_tool_description', '')}: {document.get('description', '')}".strip(": ")
    else:
        about, _, schema = about.partition(" Your input should be a json (args json schema): ")
        for key, kind in re.findall(r'"([^"]+)"\s*:\s*(\w+)', schema.partition("}")[0]):
            properties[key] = {"type": _TYPES.get(kind, "string")}
            required.append(key)
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"name": tool_name(name.strip()), "description": about.strip(), "parameters": parameters}


def _task(number: int, where: str, row: Row) -> Task:
    for field in ("query", "api_descriptions", "action", "action_input"):
        if not row.get(field):
            raise ValueError(f"{where}: no field {field!r}; {nearest(field, list(row))}")
    given = row["action_input"]
    try:
        arguments = json.loads(given) if isinstance(given, str) else dict(given)
    except ValueError:
        raise ValueError(f"{where}: 'action_input' is not JSON: {given!r}") from None
    functions, name = described(row["api_descriptions"]), tool_name(row["action"])
    if name not in [function["name"] for function in functions]:
        raise ValueError(f"{where}: 'api_descriptions' does not describe {row['action']!r}")
    meta = {
        "api": row["action"], "functions": functions, "wanted": {"name": name, "arguments": arguments},
        "state": {"right": True},
    }  # fmt: skip
    return Task(f"ste/{number}", row["query"], world="ste", meta=meta)


def _judge(task: Task, calls: Sequence[Call]) -> Mapping[str, Any]:
    """Judge the first call."""
    wanted, first = task.meta["wanted"], calls[0] if calls else None
    wellformed = first is not None and not first.problem
    matched = first is not None and wellformed and first.name == wanted["name"]
    given = {name: _plain(value) for name, value in first.arguments.items()} if first is not None and matched else {}
    right = matched and all(given.get(name) == _plain(value) for name, value in wanted["arguments"].items())
    return {"right": right, "wellformed": wellformed, "matched": matched, "calls": len(calls)}


def _plain(value: Any) -> str:
    return str(value).strip().lower()


def _solve(task: Task) -> Demonstration:
    wanted = task.meta["wanted"]
    return Demonstration(((Call(wanted["name"], wanted["arguments"]),),))
