"""Chains of drawn tools of three kinds, and a scripted controller that plans, loops, or calls helpers.

A task starts at a number and names a tool for each step; from the third step on the tool depends on whether the number
so far is even. Some calls need a code that only the tool's own error tells. A controller picks a wrong tool the more
often the more tools it is shown, and words handed to a helper may get the number wrong.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.agents.stage_parts import inserted, planned
from ferrule.agents.stages import Ranking, StageRecord, Stages, Subtask
from ferrule.core.flows import Ask, Session
from ferrule.core.records import Call, Message, Observation, Task, Tool, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.worlds.session import ToolSession

__all__ = ["KINDS", "Chains", "policies", "program"]

KINDS = ("lookup", "arithmetic", "store")
_SCHEMA = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "code": {"type": "string"}},
    "required": ["x"],
    "additionalProperties": False,
}


def _drawn(*what: object) -> random.Random:
    return random.Random("/".join(map(str, what)))


def _gives(name: str, x: int, stored: int) -> int:
    """Return what a tool makes of a number; a store adds how often stores were used before."""
    kind, _, number = name.partition("_")
    place = int(number)
    if kind == "lookup":
        return _drawn("table", place, x).randrange(100)
    return (x + 10 * (stored + 1) + place) % 100 if kind == "store" else ((place + 2) * x + place + 1) % 100


@dataclass(frozen=True)
class Chains:
    """Tasks of ``steps`` steps over ``count`` tools; a step needs a code with the chance ``errors``."""

    count: int = 6
    steps: int = 2
    errors: float = 0.2
    name: str = "chains"

    @property
    def tools(self) -> tuple[str, ...]:
        """The names of the tools, the kinds in turn."""
        return tuple(f"{KINDS[place % 3]}_{place // 3}" for place in range(self.count))

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1,)) -> list[Task]:
        """Return drawn tasks."""
        return [self._task(split, seed, place) for place in range(count)]

    def _task(self, split: str, seed: int, place: int) -> Task:
        rng = _drawn(self.name, self.count, self.steps, split, seed, place)
        start = x = rng.randrange(100)
        ways = [tuple(rng.choice(self.tools) for _ in range(2 if step > 1 else 1)) for step in range(self.steps)]
        stored = 0
        for way in ways:
            name = way[x % 2 if len(way) > 1 else 0]
            x, stored = _gives(name, x, stored), stored + name.startswith("store")
        codes = [f"k{rng.randrange(1000)}" if rng.random() < self.errors else "" for _ in ways]
        said = [f"use {w[0]}" if len(w) == 1 else f"if the number is even use {w[0]}, else use {w[1]}" for w in ways]
        prompt = f"Start at {start}: " + " ".join(f"{i}. {text}." for i, text in enumerate(said, 1))
        id = f"{self.name}/{self.count}/{self.steps}/{split}/{seed}/{place}"
        return Task(id, prompt, str(x), self.name, meta={"codes": codes})

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session; the tool of a step says which code it needs when it is called without."""
        codes: Sequence[str] = task.meta["codes"]

        def build(done: list[str]) -> tuple[Tool, ...]:
            def run(name: str) -> Callable[..., Any]:
                def called(x: int, code: str = "") -> Any:
                    needed = codes[len(done)] if len(done) < len(codes) else ""
                    if needed and code != needed:
                        return Observation(f"this call needs code={needed}", "error")
                    done.append(name)
                    return _gives(name, x, sum(each.startswith("store") for each in done[:-1]))

                return called

            return tuple(Tool(name, f"{name} of x", _SCHEMA, run(name), effects="write") for name in self.tools)

        return ToolSession(task, build, [])


# ----------------------------------------------------------------------------------------------------- controller


def _ways(prompt: str) -> tuple[int, list[tuple[str, ...]]]:
    """Return the start of a task and the tools of each step."""
    start, *steps = re.split(r" \d+\. ", prompt.splitlines()[0])
    return int(start.split()[-1].rstrip(":")), [tuple(re.findall(r"use (\w+)", step)) for step in steps]


def _picked(name: str, among: Sequence[str], slip: float, *where: object) -> str:
    """Return a tool by name, or another one with the chance ``slip`` for each other on the list."""
    others = [each for each in among if each != name]
    rng = _drawn("pick", *where)
    return rng.choice(others) if rng.random() < slip * len(others) else name


@dataclass(frozen=True)
class _Controller:
    """Writes what a controller would: a plan, the next call, or a request to a helper."""

    seed: int
    slip: float
    lost: float

    def __call__(self, request: Ask, sample: int) -> str | Message:
        first = plain_text(request.messages[0])
        start, ways = _ways(first)
        names = [tool.name for tool in request.tools]
        if not names:
            return self._plan(first, ways)
        results = [plain_text(message) for message in request.messages if message.role == "tool"]
        numbers = [int(text) for text in results if text.lstrip("-").isdigit()]
        if len(numbers) == len(ways):
            return str(numbers[-1])
        if results and (code := re.search(r"code=(\w+)", results[-1])):
            last = next(message for message in reversed(request.messages) if message.calls).calls[0]
            return Message("assistant", "", (Call(last.name, {**last.arguments, "code": code[1]}),))
        if results and not results[-1].lstrip("-").isdigit():
            return "lost"
        x, way = (numbers[-1] if numbers else start), ways[len(numbers)]
        wanted = way[x % 2 if len(way) > 1 else 0]
        where = (self.seed, first, len(numbers))
        if set(names) <= set(KINDS):
            helper = _picked(wanted.partition("_")[0], names, self.slip, *where)
            said = x + 1 if _drawn("lost", *where).random() < self.lost else x
            return Message("assistant", "", (Call(helper, {"request": f"Start at {said}: 1. use {wanted}."}),))
        return Message("assistant", "", (Call(_picked(wanted, names, self.slip, *where), {"x": x}),))

    def _plan(self, prompt: str, ways: Sequence[tuple[str, ...]]) -> str:
        """Write all steps at once; where a tool depends on a number, one is guessed."""
        offered = re.findall(r"^(\w+)\(x: int", prompt, re.M)
        guess = _drawn("guess", self.seed, prompt)
        parts = []
        for step, way in enumerate(ways):
            name = _picked(guess.choice(way), offered, self.slip, self.seed, prompt.splitlines()[0], step)
            parts.append({"id": step + 1, "text": f"use {name}", "after": [step] if step else []})
        return json.dumps(parts)


def policies(seed: int, *, slip: float, lost: float) -> dict[str, Scripted]:
    """Return the controller and the helpers of each kind, by role."""
    return {role: Scripted(_Controller(seed, slip, lost)) for role in ("solver", *KINDS)}


def program() -> Stages:
    """Return stages that have the controller plan once and run its plan as it stands, each step on the result before.

    Only the plan asks the model.
    """

    def select(part: Subtask, record: StageRecord, tools: tuple[Tool, ...]) -> Ranking:
        return ((part.text.split()[-1], 1.0),)

    def call(part: Subtask, record: StageRecord, tools: tuple[Tool, ...]) -> Sequence[Call]:
        results = [each.text for each in record.calls if each.status == "ok"]
        x = int(results[-1]) if results else _ways(record.task.prompt)[0]
        return [Call(tool.name, {"x": x}) for tool in tools]

    return Stages(planned(), select, call, inserted("{last}"))
