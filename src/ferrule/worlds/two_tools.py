"""Tasks that take two tools: look-ups, and sums that only the calculator gets right.

Levels: 1 the id of a look-up is a sum; 2 it is a product; 3 it is a product, and the look-up leads to another; 4 the
product of a look-up and a number; 5 that of a chain of two. What is drawn for ``test`` is drawn by the rule of
``ferrule.worlds.chains``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Task
from ferrule.tools.budget import Budget
from ferrule.tools.calculator import calculator
from ferrule.worlds.chains import Route, reading, route_of
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, different

__all__ = ["WORLD", "TwoTools"]

_HOPS = {1: 1, 2: 1, 3: 2, 4: 1, 5: 2}
"""Look-ups by level."""


@dataclass(frozen=True)
class _Plan:
    """A prompt, the look-ups, the expression that the calculator is given before or after them, and the answer."""

    prompt: str
    route: Route
    expression: str
    answer: int
    before: bool
    listed_first: bool
    """Whether the calculator stands first in the list of tools."""


def _plan(key: str) -> _Plan:
    _, split, level, _, _ = key.rsplit("/", 4)
    rng, number = random.Random(key), int(level)
    route, listed_first = route_of(rng, split, _HOPS[number]), bool(rng.randrange(2))
    if number > 3:
        factor = rng.randint(12, 99)
        expression = f"{route.answer} * {factor}"
        prompt = f"What is {route.what} times {factor}?"
        return _Plan(prompt, route, expression, route.answer * factor, False, listed_first)
    first = int(route.calls[0].arguments["id"])
    part = rng.randint(11, first - 11)
    expression = f"{part} + {first - part}"
    if number > 1:
        a, b = rng.randint(11, 35), rng.randint(11, 28)
        route, expression = _moved(route, first, a * b), f"{a} * {b}"
        first = a * b
    prompt = f"What is {route.what.replace(str(first), expression)}?"
    return _Plan(prompt, route, expression, route.answer, True, listed_first)


def _moved(route: Route, old: int, new: int) -> Route:
    """Give the entity that a route begins with another id."""
    head, *rest = route.calls
    cells = {}
    for key, value in route.cells.items():
        name, _, i = key.partition(".")
        begins = name.split("_")[0] == head.name.split("_")[0]
        cells[f"{name}.{new}" if begins and int(i) == old else key] = value
    what = route.what.removesuffix(str(old)) + str(new)
    return Route(what, route.texts, cells, (Call(head.name, {"id": new}), *rest), route.answer)


@dataclass(frozen=True)
class TwoTools:
    """Seeded tasks with look-ups and the tool ``calculator``. ``calls`` caps the tool calls of an episode."""

    calls: int = 16
    name: str = "two_tools"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks whose levels take turns."""
        check_split(split, levels)
        return different(lambda level, place, key: self._task(split, level, f"{seed}/{key}"), count, levels)

    def _task(self, split: str, level: int, drawn: str) -> Task:
        key = f"{self.name}/{split}/{level}/{drawn}"
        plan = _plan(key)
        meta = {"verifier": "numeric", "level": level, "split": split, "expression": plan.expression}
        return Task(id=key, prompt=plan.prompt, answer=str(plan.answer), world=self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session with the look-ups of the task and the calculator."""
        plan = _plan(task.id)

        def read(key: str) -> int:
            if key not in plan.route.cells:
                raise KeyError(f"no entry {key}")
            return plan.route.cells[key]

        look_ups = tuple(reading(name, text, read) for name, text in plan.route.texts.items())
        tools = (calculator, *look_ups) if plan.listed_first else (*look_ups, calculator)
        return ToolSession(task, lambda state: tools, budget=Budget(total=self.calls))

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the look-ups and the calculation, one per round, and the answer."""
        plan = _plan(task.id)
        calculated = Call("calculator", {"expression": plan.expression})
        calls = (calculated, *plan.route.calls) if plan.before else (*plan.route.calls, calculated)
        return Demonstration(tuple((call,) for call in calls), str(plan.answer))


WORLD = TwoTools
