"""The Berkeley Function Calling Leaderboard (BFCL): which functions does a reply call, with which arguments?

One reply is judged: its calls end the episode and run nothing. Arguments are judged as they were written, before any
repair. A reply with a call that could not be read is wrong where calls are wanted, and calls nothing where none is.

Source: "The Berkeley Function Calling Leaderboard: From Tool Use to Agentic Evaluation of Large Language Models";
data: https://github.com/ShishirPatil/gorilla (Apache-2.0).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Message, Observation, Task, Tool, plain_text
from ferrule.worlds.files import Row, read_file
from ferrule.worlds.messages import from_messages
from ferrule.worlds.rows import divided
from ferrule.worlds.session import offered
from ferrule.worlds.suites.bfcl_check import Verdict, check_calls
from ferrule.worlds.suites.origins import find
from ferrule.worlds.suites.suite import Suite

__all__ = ["CATEGORIES", "Judge", "Judged", "asked", "bfcl", "rows_of", "solve"]

CATEGORIES: Mapping[str, str] = {
    "simple_python": "calls", "multiple": "calls", "parallel": "calls", "parallel_multiple": "calls",
    "irrelevance": "none",
    "live_simple": "calls", "live_multiple": "calls", "live_parallel": "calls", "live_parallel_multiple": "calls",
    "live_irrelevance": "none", "live_relevance": "some",
}  # fmt: skip
"""What each category asks for: the right ``calls``, ``none`` at all, or ``some``."""
_MOST = 64
Judge: TypeAlias = Callable[[Task, Sequence[Call]], Mapping[str, Any]]
"""What is said of the calls of a task."""


def rows_of(category: str, data: str | Path | None) -> tuple[list[tuple[str, Row]], bool]:
    """Return the rows of a category with their answers under ``ground_truth``, and whether they are of one's own file.

    The answers stand in the rows, or in a file of the same name in the folder ``possible_answer``.
    """
    own = data is not None and Path(data).is_file()
    names = (f"{category}.jsonl", f"BFCL_v[0-9]_{category}.json")
    path = Path(str(data)) if own else find("bfcl", names, data)
    # The files of the leaderboard end in .json and hold one object a line, which the reader of JSON takes as well.
    rows = list(read_file(path).rows)
    answers = path.parent / "possible_answer" / path.name
    wanted = {row["id"]: row["ground_truth"] for _, row in read_file(answers).rows} if answers.is_file() else {}
    return [(where, {"ground_truth": wanted.get(row.get("id")), **row}) for where, row in rows], own


def asked(turn: Sequence[Any]) -> tuple[Message, ...]:
    """Return the messages of a turn of a row."""
    return from_messages(turn)


def bfcl(category: str, *, data: str | Path | None = None) -> Suite:
    """Return a category of BFCL as a world; ``data`` is its folder, or one file of rows.

    A row has ``question`` (turns of messages) and ``function`` (schemas), and ``ground_truth`` where calls are wanted.
    The benchmark's rows are all for tests; a file is divided by its prompts (a fifth is ``test``). Raises
    ``ValueError`` for an unknown category or an invalid row, ``FileNotFoundError`` where there is no data.
    """
    if category not in CATEGORIES:
        raise ValueError(f"BFCL has no category {category!r}; {nearest(category, list(CATEGORIES))}")
    rows, own = rows_of(category, data)
    tasks = tuple(_task(category, where, row) for where, row in rows)
    return Suite(f"bfcl:{category}", divided(tasks) if own else {"test": tasks}, Judged, solve)


def _task(category: str, where: str, row: Row) -> Task:
    for field in ("id", "question", "function", *(["ground_truth"] if CATEGORIES[category] == "calls" else [])):
        if row.get(field) is None:
            raise ValueError(f"{where}: no field {field!r}; {nearest(field, list(row))}")
    try:
        messages = asked(row["question"][0])
        names = {Tool.from_schema(function).name for function in row["function"]}
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if len(names) < len(row["function"]):
        raise ValueError(f"{where}: two functions of one name")
    meta = {
        "verifier": "exact", "wants": CATEGORIES[category], "functions": row["function"],
        "wanted": row["ground_truth"] or [], "state": {"right": True},
    }  # fmt: skip
    name, prompt = f"bfcl:{category}", plain_text(messages[-1])
    more = messages if len(messages) > 1 else ()
    return Task(f"{name}/{row['id']}", prompt, world=name, meta=meta, messages=more)


class Judged:
    """A session in which one reply is judged: calls are kept and end the episode.

    ``judge(task, calls)`` is what ``final()`` holds; that of BFCL says whether the calls are ``right``, what is wrong
    with them (``problem``), and how many there are (``calls``).
    """

    def __init__(self, task: Task, calls: Sequence[Call] = (), *, judge: Judge | None = None) -> None:
        """Offer the functions of the task."""
        schemas = [Tool.from_schema(function) for function in task.meta["functions"]]
        self._task, self._calls, self._judge, self._lock = task, list(calls), judge or _judged, threading.Lock()
        self._tools = offered(tuple(replace(tool, terminal=True, effects="write") for tool in schemas), task)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The functions of the task."""
        return self._tools

    def act(self, call: Call) -> Observation:
        """Keep a call; nothing is run."""
        with self._lock:
            if len(self._calls) == _MOST:
                return Observation(f"{_MOST} calls were made, and no more are kept", "refused", terminal=True)
            self._calls.append(call)
        tool = next((tool for tool in self._tools if tool.name == call.name), None)
        if call.problem:
            return Observation(f"malformed call: {call.problem}", "malformed", terminal=True)
        if tool is None:
            names = [tool.name for tool in self._tools]
            hint = nearest(call.name, names) if names else "no tools are on offer"
            return Observation(f"unknown tool {call.name!r}; {hint}", "unknown_tool", terminal=True)
        known = tool.parameters.get("properties", {})
        odd = [name for name in call.arguments if name not in known]
        lacking = [name for name in tool.parameters.get("required", ()) if name not in call.arguments]
        if odd or lacking:
            return Observation(f"unknown arguments {odd}, missing arguments {lacking}", "error", terminal=True)
        return Observation("the call is made", terminal=True)

    def fork(self) -> Session:
        """Return a session with the same calls."""
        with self._lock:
            return Judged(self._task, self._calls, judge=self._judge)

    def final(self) -> Mapping[str, Any]:
        """Return what the judge says of the calls."""
        return self._judge(self._task, self._calls)

    def close(self) -> None:
        """Nothing is held."""


def _judged(task: Task, calls: Sequence[Call]) -> Mapping[str, Any]:
    verdict = _verdict(task, calls)
    return {"right": verdict.right, "problem": verdict.problem, "calls": len(calls)}


def _verdict(task: Task, calls: Sequence[Call]) -> Verdict:
    unread = [call for call in calls if call.problem]
    read = [(call.name, call.arguments) for call in calls if not call.problem]
    if task.meta["wants"] == "calls":
        if unread:
            return Verdict(False, f"a call could not be read: {unread[0].problem}")
        return check_calls(read, task.meta["functions"], task.meta["wanted"])
    right = bool(read) == (task.meta["wants"] == "some")
    return Verdict(right, "" if right else "a call is wanted" if not read else f"no call is wanted, not {read[0][0]}")


def solve(task: Task) -> Demonstration:
    """Return the first accepted calls; no call where none is wanted."""
    if task.meta["wants"] == "none":
        return Demonstration((), "None of the functions can do that.")
    if task.meta["wants"] == "some":
        raise ValueError(f"task {task.id!r} asks for any call, so it has no reference solution")
    needed = {entry["name"]: entry["parameters"].get("required", ()) for entry in task.meta["functions"]}
    calls = tuple(_first(entry, needed) for entry in task.meta["wanted"])
    if not _verdict(task, calls).right:
        raise ValueError(f"task {task.id!r} accepts no values for a parameter that its function requires")
    return Demonstration((calls,))


def _first(entry: Mapping[str, Mapping[str, Sequence[Any]]], needed: Mapping[str, Sequence[str]]) -> Call:
    """Return a wanted call with the first accepted values, and without what may be left out."""
    ((name, accepted),) = entry.items()
    kept = {key: values for key, values in accepted.items() if "" not in values or key in needed.get(name, ())}
    return Call(name, {key: _value(values) for key, values in kept.items()})


def _value(values: Sequence[Any]) -> Any:
    """Return the first accepted value; an object names the accepted values of each of its keys."""
    return _inner(next((value for value in values if value != ""), ""))


def _inner(value: Any) -> Any:
    if isinstance(value, list):
        return [_inner(entry) for entry in value]
    if not isinstance(value, Mapping) or not all(isinstance(values, list) for values in value.values()):
        return value
    return {key: _value(values) for key, values in value.items() if "" not in values}
