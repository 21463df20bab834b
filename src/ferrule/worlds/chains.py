"""Chains of look-ups: what one call returns is what the next one needs, one to five calls long.

Every task brings its own tools. The held-out split holds by construction: a tool is made of a noun and what it leads to
or tells (``club_coach``, ``club_age``), and such a pair belongs to ``test`` when the CRC-32 of ``noun.column`` is
divisible by five; decoys come from the split of the task. The level is the number of calls.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.worlds.apis import split_of
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, different

__all__ = ["WORLD", "Chains", "Route", "reading", "route_of"]

NOUNS = (
    "bank", "bridge", "club", "coach", "garden", "lake", "market", "museum", "port", "school", "street", "tower",
    "train", "village",
)  # fmt: skip
FIELDS = ("age", "budget", "capacity", "cost", "depth", "height", "length", "rating", "rent", "speed", "tax", "year")
ID = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"], "additionalProperties": False}


@dataclass(frozen=True)
class Route:
    """A question and the way to its answer: ``what`` is asked, ``texts`` describe the tools, ``cells`` hold results.

    ``texts`` are by tool name, in the order in which tools are listed; ``cells`` by ``tool.id``.
    """

    what: str
    texts: Mapping[str, str]
    cells: Mapping[str, int]
    calls: tuple[Call, ...]
    answer: int


def _leads(noun: str, split: str, columns: Sequence[str]) -> list[str]:
    return [column for column in columns if column != noun and split_of(noun, column) == split]


def _nouns(rng: random.Random, split: str, count: int) -> list[str]:
    """Draw nouns of which each leads to the next, the last with a field of the split and another."""
    while True:
        nouns = [rng.choice(NOUNS)]
        while len(nouns) < count:
            further = [noun for noun in _leads(nouns[-1], split, NOUNS) if noun not in nouns]
            if not further:
                break
            nouns.append(rng.choice(further))
        if len(nouns) == count and len(_leads(nouns[-1], split, FIELDS)) > 1:
            return nouns


def route_of(rng: random.Random, split: str, calls: int, *, decoys: int = 4) -> Route:
    """Draw a question that so many calls answer, with at most so many tools beside it that lead elsewhere."""
    nouns = _nouns(rng, split, calls)
    column = rng.choice(_leads(nouns[-1], split, FIELDS))
    ids = [rng.randint(100, 999) for _ in nouns]
    steps = [*itertools.pairwise(nouns), (nouns[-1], column)]
    results = [*ids[1:], rng.randint(10, 999)]
    made = tuple(Call(f"{noun}_{to}", {"id": i}) for (noun, to), i in zip(steps, ids, strict=True))
    shown = {f"{noun}_{to}": f"{to} of a {noun}" for noun, to in steps}
    cells = {f"{call.name}.{i}": result for call, i, result in zip(made, ids, results, strict=True)}
    elsewhere = [
        (noun, to, i)
        for noun, i in zip(nouns, ids, strict=True)
        for to in _leads(noun, split, (*NOUNS, *FIELDS))
        if f"{noun}_{to}" not in shown
    ]
    for noun, to, i in rng.sample(elsewhere, min(decoys, len(elsewhere))):
        shown[f"{noun}_{to}"] = f"{to} of a {noun}"
        cells[f"{noun}_{to}.{i}"] = rng.randint(10, 999)
    listed = list(shown)
    rng.shuffle(listed)
    path = "".join(f" of the {noun}" for noun in reversed(nouns[1:]))
    what = f"the {column}{path} of {nouns[0]} {ids[0]}"
    return Route(what, {name: shown[name] for name in listed}, cells, made, results[-1])


def reading(name: str, text: str, read: Callable[[str], int | Observation], cost: float = 1.0) -> Tool:
    """Return a tool that reads the cell of an id; ``read`` is given ``name.id``."""
    return Tool(name, text, ID, lambda id: read(f"{name}.{id}"), cost=cost)


def _parts(key: str) -> tuple[random.Random, str, int]:
    """Return the generator, split and level of a task by its id ``name/split/level/seed/index``."""
    _, split, level, _, _ = key.rsplit("/", 4)
    return random.Random(key), split, int(level)


@dataclass(frozen=True)
class Chains:
    """Seeded chains of look-ups, of one call (level 1) to five. ``calls`` caps the tool calls of an episode."""

    calls: int = 16
    name: str = "chains"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks whose levels take turns."""
        check_split(split, levels)
        return different(lambda level, place, key: self._task(split, level, f"{seed}/{key}"), count, levels)

    def _route(self, key: str) -> Route:
        return route_of(*_parts(key))

    def _task(self, split: str, level: int, drawn: str) -> Task:
        key = f"{self.name}/{split}/{level}/{drawn}"
        route = self._route(key)
        meta = {"verifier": "numeric", "level": level, "split": split}
        return Task(id=key, prompt=f"What is {route.what}?", answer=str(route.answer), world=self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session with the tools of the task."""
        route = self._route(task.id)

        def read(key: str) -> int:
            if key not in route.cells:
                raise KeyError(f"no entry {key}")
            return route.cells[key]

        tools = tuple(reading(name, text, read) for name, text in route.texts.items())
        return ToolSession(task, lambda state: tools, budget=Budget(total=self.calls))

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the chain of calls, one per round, and the answer."""
        route = self._route(task.id)
        return Demonstration(tuple((replace(call),) for call in route.calls), str(route.answer))


WORLD = Chains
