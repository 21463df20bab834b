"""tau-bench: an agent serves the customers of a shop or an airline under a policy, judged by the database it leaves.

An episode is right when the database ends as the reference actions of the task leave it, and when all ``outputs`` of
the task were told. The tools are written anew over the published data. What the customer wants is the prompt: they are
not asked, and confirm every step that serves it.

Source: "tau-bench: A Benchmark for Tool-Agent-User Interaction in Real-World Domains", https://arxiv.org/abs/2406.12045;
data: https://github.com/sierra-research/tau-bench (MIT).
"""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Message, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.tools.invoke import invoke
from ferrule.worlds.files import Row, read_file
from ferrule.worlds.rows import divided
from ferrule.worlds.session import ToolSession
from ferrule.worlds.suites.origins import find
from ferrule.worlds.suites.records import Records, methods
from ferrule.worlds.suites.suite import Suite
from ferrule.worlds.suites.tau_airline import Airline
from ferrule.worlds.suites.tau_retail import Retail

__all__ = ["DOMAINS", "tau"]

DOMAINS: Mapping[str, tuple[type, tuple[str, ...]]] = {
    "retail": (Retail, ("users", "orders", "products")),
    "airline": (Airline, ("users", "reservations", "flights")),
}
"""The desk and the tables of each domain."""
_CALLS = 60
_TURNS = 40
_ASKED = (
    "The following describes the customer you serve, in words that are addressed to them. They cannot be asked: take "
    "it as what they say and want, and every step that serves it as confirmed. Act at once, then tell them all that "
    "they want to know.\n\n{instruction}"
)


@dataclass(frozen=True)
class _Domain:
    """A desk, the tables behind it, and what reference actions leave, kept by the id of their task."""

    desk: type
    tables: Mapping[str, Mapping[str, Any]] = field(repr=False)
    goals: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def tools(self, records: Records) -> tuple[Tool, ...]:
        return methods(self.desk, records)

    def goal(self, task: Task) -> Any:
        """Return what the reference actions of a task change."""
        if task.id not in self.goals:
            records = Records(self.tables)
            tools = {tool.name: tool for tool in self.tools(records)}
            for call in _calls(task):
                invoke(tools[call.name], call)
            self.goals[task.id] = records.differences()
        return self.goals[task.id]

    def open(self, task: Task) -> Session:
        """Open a session on the tables as they were."""

        def final(records: Records) -> Mapping[str, Any]:
            left = records.differences()
            return {"passed": left == self.goal(task), "changed": sorted(f"{table}/{id}" for table, id in left)}

        records, budget = Records(self.tables), Budget(total=_CALLS)
        return ToolSession(task, self.tools, records, budget=budget, limit=8000, final=final)


def _calls(task: Task) -> list[Call]:
    return [Call(action["name"], action["kwargs"]) for action in task.meta["actions"]]


def tau(domain: str, *, data: str | Path | None = None) -> Suite:
    """Return ``retail`` or ``airline`` as a world; ``data`` is a folder with its files, or a file of tasks beside them.

    The files are those of the repository (``data/users.json``, ..., ``wiki.md``, ``tasks_test.py``), or the same tables
    with ``policy.md`` and ``tasks*.jsonl`` whose rows have ``instruction``, ``actions`` (``name``, ``kwargs``) and
    ``outputs``. A file of tasks is divided by its prompts (a fifth is ``test``). Raises ``ValueError`` for an unknown
    domain and for invalid tasks, ``FileNotFoundError`` where there is no data.
    """
    if domain not in DOMAINS:
        raise ValueError(f"tau-bench has no domain {domain!r}; {nearest(domain, list(DOMAINS))}")
    desk, names = DOMAINS[domain]
    own = Path(data) if data is not None and Path(data).is_file() else None
    where = own.parent if own else data
    tables = {name: _object(_file(domain, f"{name}.json", where)) for name in names}
    policy = _file(domain, "policy.md", where, "wiki.md").read_text(encoding="utf-8")
    known = {tool.name for tool in methods(desk, Records(tables))}
    read = partial(_tasks, domain, policy, known)
    if own:
        rows = divided(read(own, "all"))
    else:
        rows = {"test": read(_file(domain, "tasks.jsonl", where, "tasks_test.*", "tasks_even.jsonl"), "test")}
        with contextlib.suppress(FileNotFoundError):
            rows["train"] = read(_file(domain, "tasks_train.jsonl", where, "tasks_train.py"), "train")
    return Suite(f"tau:{domain}", rows, _Domain(desk, tables).open, _solve)


def _file(domain: str, name: str, data: str | Path | None, *others: str) -> Path:
    """Find a file of a domain in the layout of the repository, or in a folder of the domain."""
    homes = ("", f"{domain}/", f"tau_bench/envs/{domain}/")
    places = [f"{home}{inner}" for home in homes for inner in ("", "data/")]
    return find("tau_bench", [f"{place}{each}" for each in (name, *others) for place in places], data)


def _object(path: Path) -> Mapping[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{path}: a table is a JSON object of records by id, not a {type(value).__name__}")
    return value


def _tasks(domain: str, policy: str, known: set[str], path: Path, part: str) -> tuple[Task, ...]:
    rows = _literal(path) if path.suffix == ".py" else read_file(path).rows
    return tuple(_task(domain, policy, known, part, number, *placed) for number, placed in enumerate(rows))


def _task(domain: str, policy: str, known: set[str], part: str, number: int, where: str, row: Row) -> Task:
    for name in ("instruction", "actions"):
        if name not in row:
            raise ValueError(f"{where}: no field {name!r}; {nearest(name, list(row))}")
    actions = [
        {"name": each["name"], "kwargs": each.get("kwargs", each.get("arguments", {}))} for each in row["actions"]
    ]
    for action in actions:
        if action["name"] not in known:
            raise ValueError(f"{where}: no tool {action['name']!r}; {nearest(action['name'], sorted(known))}")
    outputs = [str(text) for text in row.get("outputs") or ()]
    asked = Message("user", _ASKED.format(instruction=row["instruction"]))
    name = f"tau:{domain}"
    meta = {"verifier": "mentions", "turns": _TURNS, "actions": actions, "state": {"passed": True}}
    return Task(
        f"{name}/{part}/{row.get('task_id', number)}", str(asked.content), "\n".join(outputs) or None, name, meta=meta,
        messages=(Message("system", policy), asked),
    )  # fmt: skip


def _literal(path: Path) -> Iterator[tuple[str, Row]]:
    """Read the tasks of a Python file of the repository, the longest list in it, without running it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lists = [node for node in ast.walk(tree) if isinstance(node, ast.List)]
    longest = max(lists, key=lambda node: len(node.elts), default=None)
    for entry in longest.elts if longest is not None else ():
        row = _plain(entry)
        if isinstance(row, dict) and "instruction" in row:
            yield f"{path}, line {entry.lineno}", row


def _plain(node: ast.expr) -> Any:
    """Return the value of a literal; ``Task(...)`` and ``Action(...)`` are read as their keywords."""
    if isinstance(node, ast.Call):
        return {keyword.arg: _plain(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.List):
        return [_plain(entry) for entry in node.elts]
    if isinstance(node, ast.Dict):
        return {_plain(k): _plain(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
    return ast.literal_eval(node)


def _solve(task: Task) -> Demonstration:
    """Return the reference actions one by one, and what has to be told."""
    calls = tuple((call,) for call in _calls(task))
    handed_over = any(call.name == "transfer_to_human_agents" for (call,) in calls)
    return Demonstration(calls, None if handed_over else task.answer or "Done.")
