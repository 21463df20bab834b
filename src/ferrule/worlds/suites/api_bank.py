"""API-Bank: the next call of a dialogue, with the descriptions of the APIs that the dialogue uses.

Every call of an API in a dialogue is one task: the dialogue up to it, results of earlier calls included, is what the
model is asked, and one reply is judged. A call is right when it names the API and gives its arguments, texts compared
as in BFCL (``ferrule.worlds.suites.bfcl_check``). Calls of the benchmark's search for APIs are no tasks: their keywords
are judged by meaning there.

Source: "API-Bank: A Comprehensive Benchmark for Tool-Augmented LLMs", https://arxiv.org/abs/2304.08244; data:
https://github.com/AlibabaResearch/DAMO-ConvAI (MIT).
"""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.records import Call, Message, Task, plain_text
from ferrule.worlds.files import Placed, Row, read_file
from ferrule.worlds.rows import divided
from ferrule.worlds.suites.bfcl import Judged, solve
from ferrule.worlds.suites.origins import find
from ferrule.worlds.suites.suite import Suite

__all__ = ["api_bank"]

Dialogue = tuple[str, str, int, Sequence[Row]]
"""Place, id, level and turns."""
_NAME = "\u7c7b\u540d"
"""Heading of the column that names the class of an API."""
_SEARCH = "ToolSearcher"
_LEVELS = {"level-1-given-desc": 1, "level-2-toolsearcher": 2}


def api_bank(*, data: str | Path | None = None) -> Suite:
    """Return API-Bank as a world; ``data`` is a folder with its files, or a file of dialogues beside ``all_apis.csv``.

    A row of dialogues has ``turns``; the repository has one file per dialogue in ``lv1-lv2-samples``. Levels are those
    of the benchmark, 1 and 2. A file is divided by its prompts (a fifth is ``test``). Raises ``ValueError`` for invalid
    rows, ``FileNotFoundError`` where there is no data.
    """
    own = Path(data) if data is not None and Path(data).is_file() else None
    where = own.parent if own else data
    places = ("", "data/", "api-bank/data/")
    table = read_file(find("api_bank", [f"{place}all_apis.csv" for place in places], where)).rows
    dialogues = list(_dialogues(own, where))
    schemas = dict(_schemas(table, _given(dialogues)))
    tasks = tuple(task for dialogue in dialogues for task in _tasks(*dialogue, schemas))
    return Suite("api_bank", divided(tasks) if own else {"test": tasks}, Judged, solve)


def _given(dialogues: Sequence[Dialogue]) -> dict[str, dict[str, None]]:
    """Return the parameters that the calls of each API give."""
    names: dict[str, dict[str, None]] = {}
    for *_, turns in dialogues:
        for turn in turns:
            if turn["role"] == "API":
                names.setdefault(turn["api_name"], {}).update(dict.fromkeys(turn["param_dict"]))
    return names


def _schemas(rows: Sequence[Placed], names: Mapping[str, Iterable[str]]) -> Iterator[tuple[str, Row]]:
    """Yield the schemas of all APIs by name, with the parameters that calls give.

    The table describes an earlier state of the APIs, as Python assignments, which are read and not run: of it come the
    descriptions, and the parameters of an API that is never called. Every value is a text, as in the dialogues.
    """
    for _, row in rows:
        assigned: dict[str, Any] = {}
        with contextlib.suppress(SyntaxError, ValueError):  # a row without a description
            assigned = {
                statement.targets[0].id: ast.literal_eval(statement.value)
                for statement in ast.parse(str(row["api_info"])).body
                if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
            }
        name, told = str(row[_NAME]), assigned.get("input_parameters")
        told = told if isinstance(told, dict) else {}
        given = names.get(name, told)
        properties = {key: {"type": "string", "description": told.get(key, {}).get("description", "")} for key in given}
        parameters = {"type": "object", "properties": properties, "required": []}
        yield name, {"name": name, "description": assigned.get("description", ""), "parameters": parameters}


def _dialogues(own: Path | None, data: str | Path | None) -> Iterator[Dialogue]:
    """Yield every dialogue."""
    if own is None:
        homes = ("", "api-bank/")
        names = [f"{home}lv1-lv2-samples/level-1-given-desc/*.jsonl" for home in homes]
        first = find("api_bank", ["dialogues*.jsonl", *names], data)
        own = first if first.name.startswith("dialogues") else None
        for folder in () if own else sorted(first.parent.parent.iterdir()):
            for file in sorted(folder.glob("*.jsonl")) if folder.name in _LEVELS else ():
                yield str(file), file.stem, _LEVELS[folder.name], [row for _, row in read_file(file).rows]
    for where, row in read_file(own).rows if own else ():
        if "turns" not in row:
            raise ValueError(f"{where}: no field 'turns'; {nearest('turns', list(row))}")
        yield where, Path(str(row.get("file", where))).stem, _LEVELS.get(str(row.get("set")), 1), row["turns"]


def _tasks(where: str, id: str, level: int, turns: Sequence[Row], schemas: Mapping[str, Row]) -> Iterator[Task]:
    """Yield a task for every call of an API in a dialogue."""
    used = dict.fromkeys(turn["api_name"] for turn in turns if turn["role"] == "API" and turn["api_name"] != _SEARCH)
    for name in used:
        if name not in schemas:
            raise ValueError(f"{where}: unknown API {name!r}; {nearest(name, list(schemas))}")
    messages: list[Message] = []
    for place, turn in enumerate(turns):
        if turn["role"] != "API":
            messages.append(Message("user" if turn["role"] == "User" else "assistant", turn["text"]))
            continue
        name, given = turn["api_name"], turn["param_dict"]
        asked = messages[
            : 1 + max((i for i, message in enumerate(messages) if message.role != "assistant"), default=-1)
        ]
        if name != _SEARCH and asked:
            yield _task(f"api_bank/{id}/{place}", level, asked, [schemas[each] for each in used], name, given)
        call = Call(name, given, id=f"call_{place}")
        result = json.dumps(turn["result"].get("output"), ensure_ascii=False)
        messages += [Message("assistant", calls=(call,)), Message("tool", result, name=name, call_id=call.id)]


def _task(id: str, level: int, asked: Sequence[Message], functions: list[Row], name: str, given: Row) -> Task:
    wanted = [{name: {key: [value] for key, value in given.items()}}]
    meta: dict[str, Any] = {
        "level": level, "wants": "calls", "functions": functions, "wanted": wanted, "state": {"right": True},
    }  # fmt: skip
    more = tuple(asked) if len(asked) > 1 else ()
    return Task(id, plain_text(asked[-1]), world="api_bank", meta=meta, messages=more)
