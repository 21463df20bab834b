"""Questions that take four look-ups in a row with tools that may err, contracts for them, and who chooses the next.

Source: a stand-in for the tasks of "ToolGate: Contract-Grounded and Verified Tool Execution for LLMs" (paper 62).
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ferrule.agents.gate import CALL, CALL_END
from ferrule.core.arrays import nearest
from ferrule.core.flows import Ask, Session
from ferrule.core.records import Task, Tool, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.tools.budget import Budget
from ferrule.tools.contracts import Contract
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split

__all__ = ["ARMS", "KINDS", "Chains", "chain_contracts", "chooser", "named", "rows_of"]

KINDS = ("order", "customer", "city", "depot", "courier")
ARMS = ("none", "schema", "full")


def rows_of(key: str) -> list[dict[str, str]]:
    """Return six chains of entities, the task's own first; no value occurs twice."""
    rng = random.Random(key)
    taken: set[str] = set()

    def fresh(kind: str) -> str:
        while True:
            number = 2 * rng.randint(500, 4999) + (kind == "order" and "/test/" in key)
            if f"{kind}-{number}" not in taken:
                taken.add(f"{kind}-{number}")
                return f"{kind}-{number}"

    return [{kind: fresh(kind) for kind in KINDS} for _ in range(6)]


class _Desk:
    """The look-ups of one episode; ``errs`` is the chance that one goes wrong, drawn in the order of the calls."""

    def __init__(self, rows: Sequence[Mapping[str, str]], errs: float, seed: int) -> None:
        self.rows, self.errs, self.rng = rows, errs, random.Random(seed)

    def look(self, kind: str, wanted: str, value: str | None) -> dict[str, Any]:
        """Return ``wanted`` of the row whose ``kind`` is ``value``; without a value, of any row."""
        known = [row for row in self.rows if value in (None, row[kind])]
        if not known:
            raise KeyError(f"no {kind} {value}")
        row = known[0] if value is not None else self.rng.choice(known)
        fault = self.rng.choice(("missing", "null", "other")) if self.rng.random() < self.errs else ""
        if fault == "other":
            row = self.rng.choice([other for other in self.rows if other is not row])
        echo: dict[str, Any] = {kind: row[kind]}
        return echo if fault == "missing" else {**echo, wanted: None if fault == "null" else row[wanted]}


@dataclass(frozen=True)
class Chains:
    """Questions that four look-ups in a row answer: order, customer, city, depot, courier.

    A look-up echoes what it was asked about. With probability ``errs`` it leaves its field out, returns null, or speaks
    of another entity; asked with null it answers about any entity. ``calls`` caps the calls of an episode.
    """

    errs: float = 0.15
    calls: int = 32
    name: str = "chains"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return ``count`` tasks; order numbers of the test split are odd. There is one level of difficulty."""
        check_split(split, levels)
        tasks = []
        for key in (f"{self.name}/{split}/{seed}/{i}" for i in range(count)):
            row = rows_of(key)[0]
            prompt = f"Which courier serves {row['order']}?"
            tasks.append(Task(key, prompt, row["courier"], self.name, meta={"entities": {"order": row["order"]}}))
        return tasks

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session with the four look-ups."""
        return ToolSession(task, _look_ups, _Desk(rows_of(task.id), self.errs, seed), budget=Budget(total=self.calls))


def _look_ups(desk: _Desk) -> tuple[Tool, ...]:
    def look_up(kind: str, wanted: str) -> Tool:
        entry = {"anyOf": [{"type": "string"}, {"type": "null"}]}
        parameters = {"type": "object", "properties": {kind: entry}, "required": [kind]}
        output = {"type": "object", "properties": {wanted: {"type": "string"}}}
        return Tool(
            f"find_{wanted}",
            f"the {wanted} of a {kind}",
            parameters,
            lambda **v: desk.look(kind, wanted, v[kind]),
            output=output,
        )

    return tuple(look_up(kind, wanted) for kind, wanted in pairwise(KINDS))


def chain_contracts(arm: str) -> dict[str, Contract]:
    """Return the contracts of the look-ups.

    ``none`` believes everything, ``schema`` asks for the argument and for a field that is not null, ``full`` also for
    the echo of what was asked about.
    """
    if arm not in ARMS:
        raise ValueError(f"arm is {arm!r}; {nearest(arm, ARMS)}")
    contracts = {}
    for kind, wanted in pairwise(KINDS):
        echo = (f"result.{kind} == args.{kind}",) if arm == "full" else ()
        updates = {wanted: f"result.{wanted}"}
        gated = Contract(pre=(f"exists({kind})",), post=(f"result.{wanted} != None", *echo), updates=updates)
        contracts[f"find_{wanted}"] = Contract(updates=updates) if arm == "none" else gated
    return contracts


def chooser(right: float = 0.8) -> Scripted:
    """Return a policy that reads the known facts and names the next look-up, with probability 1 - ``right`` any."""

    def speak(request: Ask, sample: int) -> str:
        known = dict(re.findall(r"^(\w+)\(string\): (.*)$", plain_text(request.messages[-1]), re.MULTILINE))
        missing = [kind for kind in KINDS[1:] if kind not in known]
        if not missing:
            return str(known[KINDS[-1]])
        rng = random.Random(request.seed)
        named = missing[0] if rng.random() < right else rng.choice(KINDS[1:])
        return f"{CALL} find_{named} {CALL_END}"

    return Scripted(speak)


def named(query: str, tools: Sequence[Tool], contracts: Mapping[str, Contract]) -> list[Tool]:
    """Return the tool whose name the query begins with: retrieval that never errs, so that the chooser alone does."""
    return [tool for tool in tools if query.split()[:1] == [tool.name]]
