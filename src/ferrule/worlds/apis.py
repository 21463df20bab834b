"""Generated typed tools over small tables: picking among decoys, copying arguments, chains, and changes of state.

Every task brings its own tools. The held-out split holds by construction: tools are made of a noun and a field
(``car_price``), and a pair belongs to ``test`` when the CRC-32 of ``noun.field`` is divisible by five. Levels: 1 one
call beside one decoy; 2 two arguments beside three decoys; 3 a chain of two calls; 4 a change and a reading;
5 two look-ups by name, a reading and a change.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, different

__all__ = ["WORLD", "Apis", "Tables"]

_NOUNS = (
    "book",
    "boat",
    "car",
    "dog",
    "farm",
    "hotel",
    "lamp",
    "phone",
    "plant",
    "room",
    "ship",
    "shop",
    "song",
    "team",
)
_FIELDS = ("age", "floor", "height", "power", "price", "rank", "score", "size", "speed", "stock", "weight", "width")
_CITIES = ("Oslo", "Rome", "Lima", "Cairo", "Delhi", "Paris", "Tokyo", "Quito")
_ONSET, _CODA = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z"), ("a", "e", "i", "o", "u")


def split_of(noun: str, column: str) -> str:
    """Return the split that a pair of noun and field belongs to."""
    return "test" if zlib.crc32(f"{noun}.{column}".encode()) % 5 == 0 else "train"


def _pairs(split: str) -> list[tuple[str, str]]:
    """Pairs of a split, of nouns that have two fields there at least: decoys must not come from the other split."""
    fields = {noun: [column for column in _FIELDS if split_of(noun, column) == split] for noun in _NOUNS}
    return [(noun, column) for noun, columns in fields.items() if len(columns) > 1 for column in columns]


def _name(rng: random.Random) -> str:
    return "".join(rng.choice(_ONSET) + rng.choice(_CODA) for _ in range(3)).capitalize()


@dataclass
class Tables:
    """The mutable state of one task: ids by name, cells by ``noun.id.field`` (and city), and what was changed."""

    ids: dict[str, int] = field(default_factory=dict)
    cells: dict[str, int] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)

    def read(self, key: str) -> int:
        """Return a cell; raises ``KeyError`` with a readable text when there is none."""
        if key not in self.cells:
            raise KeyError(f"no entry {key}")
        return self.changes.get(key, self.cells[key])

    def write(self, key: str, value: int) -> None:
        """Change a cell that exists."""
        self.read(key)
        self.changes[key] = value


@dataclass(frozen=True)
class _Plan:
    """One generated task: prompt, tools as (kind, noun, field), state, expert rounds, answer and changes."""

    prompt: str
    kinds: tuple[tuple[str, str, str], ...]
    tables: Tables
    rounds: tuple[tuple[Call, ...], ...]
    answer: int
    changes: Mapping[str, int]


def _schema(**types: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in types.items()},
        "required": list(types),
        "additionalProperties": False,
    }


def _tool(kind: str, noun: str, column: str, tables: Tables) -> Tool:
    """Build one tool of the task, bound to its tables."""
    if kind == "find":
        return Tool(f"find_{noun}", f"id of a {noun}", _schema(name="string"), lambda name: _find(tables, noun, name))
    if kind == "set":

        def change(id: int, value: int) -> str:
            tables.write(f"{noun}.{id}.{column}", value)
            return "done"

        parameters = _schema(id="integer", value="integer")
        return Tool(f"set_{noun}_{column}", f"change {column} of a {noun}", parameters, change, effects="write")
    if kind == "city":
        parameters = _schema(id="integer", city="string")
        return Tool(
            f"{noun}_{column}",
            f"{column} of a {noun} in a city",
            parameters,
            lambda id, city: tables.read(f"{noun}.{id}.{column}.{city}"),
        )
    return Tool(
        f"{noun}_{column}",
        f"{column} of a {noun}",
        _schema(id="integer"),
        lambda id: tables.read(f"{noun}.{id}.{column}"),
    )


def _find(tables: Tables, noun: str, name: str) -> int:
    if f"{noun}.{name}" not in tables.ids:
        raise KeyError(f"no {noun} named {name}")
    return tables.ids[f"{noun}.{name}"]


class _Maker:
    """Draws the parts of one task from its own generator."""

    def __init__(self, rng: random.Random, split: str) -> None:
        self.rng, self.pairs, self.tables = rng, _pairs(split), Tables()
        self.noun, self.column = rng.choice(self.pairs)

    def other(self) -> str:
        """Another field of the same noun and split, as a decoy or a second question."""
        others = [f for n, f in self.pairs if n == self.noun and f != self.column]
        return self.rng.choice(others)

    def entity(self, *columns: str, city: str = "") -> tuple[int, str]:
        """Add an entity with random values and return its id and name."""
        number, name = self.rng.randint(100, 999), _name(self.rng)
        self.tables.ids[f"{self.noun}.{name}"] = number
        for column in columns:
            key = f"{self.noun}.{number}.{column}" + (f".{city}" if city else "")
            self.tables.cells[key] = self.rng.randint(10, 999)
        return number, name

    def plan(
        self, prompt: str, kinds: Sequence[tuple[str, str, str]], rounds: Any, answer: int, **changes: int
    ) -> _Plan:
        """Put the parts together; the tools are listed in random order."""
        listed = list(dict.fromkeys(kinds))
        self.rng.shuffle(listed)
        return _Plan(prompt, tuple(listed), self.tables, tuple(rounds), answer, changes)


def _one(m: _Maker) -> _Plan:
    decoy = m.other()
    number, _ = m.entity(m.column, decoy)
    call = Call(f"{m.noun}_{m.column}", {"id": number})
    kinds = [("get", m.noun, m.column), ("get", m.noun, decoy)]
    answer = m.tables.read(f"{m.noun}.{number}.{m.column}")
    return m.plan(f"What is the {m.column} of {m.noun} {number}?", kinds, [(call,)], answer)


def _two(m: _Maker) -> _Plan:
    decoy, city = m.other(), m.rng.choice(_CITIES)
    number, _ = m.entity(m.column, decoy, city=city)
    call = Call(f"{m.noun}_{m.column}", {"id": number, "city": city})
    stranger, its = m.rng.choice(m.pairs)
    kinds = [("city", m.noun, m.column), ("city", m.noun, decoy), ("set", m.noun, decoy), ("find", stranger, its)]
    answer = m.tables.read(f"{m.noun}.{number}.{m.column}.{city}")
    return m.plan(f"What is the {m.column} of {m.noun} {number} in {city}?", kinds, [(call,)], answer)


def _three(m: _Maker) -> _Plan:
    decoy = m.other()
    number, name = m.entity(m.column, decoy)
    rounds = [(Call(f"find_{m.noun}", {"name": name}),), (Call(f"{m.noun}_{m.column}", {"id": number}),)]
    kinds = [("get", m.noun, m.column), ("get", m.noun, decoy), ("find", m.noun, "")]
    answer = m.tables.read(f"{m.noun}.{number}.{m.column}")
    return m.plan(f"What is the {m.column} of the {m.noun} {name}?", kinds, rounds, answer)


def _four(m: _Maker) -> _Plan:
    second, value = m.other(), m.rng.randint(10, 999)
    number, _ = m.entity(m.column, second)
    rounds = [
        (Call(f"set_{m.noun}_{m.column}", {"id": number, "value": value}),),
        (Call(f"{m.noun}_{second}", {"id": number}),),
    ]
    kinds = [("set", m.noun, m.column), ("get", m.noun, m.column), ("get", m.noun, second)]
    answer = m.tables.read(f"{m.noun}.{number}.{second}")
    prompt = f"Set the {m.column} of {m.noun} {number} to {value}. What is its {second}?"
    return m.plan(prompt, kinds, rounds, answer, **{f"{m.noun}.{number}.{m.column}": value})


def _five(m: _Maker) -> _Plan:
    number, name = m.entity(m.column)
    source, source_name = m.entity(m.column)
    answer = m.tables.read(f"{m.noun}.{source}.{m.column}")
    rounds = [
        (Call(f"find_{m.noun}", {"name": name}),),
        (Call(f"find_{m.noun}", {"name": source_name}),),
        (Call(f"{m.noun}_{m.column}", {"id": source}),),
        (Call(f"set_{m.noun}_{m.column}", {"id": number, "value": answer}),),
    ]
    kinds = [("find", m.noun, ""), ("get", m.noun, m.column), ("set", m.noun, m.column)]
    prompt = f"Set the {m.column} of the {m.noun} {name} to that of {source_name}. What is it now?"
    return m.plan(prompt, kinds, rounds, answer, **{f"{m.noun}.{number}.{m.column}": answer})


_LEVELS: dict[int, Callable[[_Maker], _Plan]] = {1: _one, 2: _two, 3: _three, 4: _four, 5: _five}


def _plan(key: str) -> _Plan:
    """Rebuild a task's plan from its id ``name/split/level/seed/index``."""
    _, split, level, _, _ = key.rsplit("/", 4)
    return _LEVELS[int(level)](_Maker(random.Random(key), split))


@dataclass(frozen=True)
class Apis:
    """Seeded tasks over generated tools. ``calls`` caps the tool calls of an episode.

    ``level`` draws tasks of that level alone (0: all).
    """

    calls: int = 8
    level: int = 0
    name: str = "apis"

    def __post_init__(self) -> None:
        """Refuse an unknown level."""
        if self.level not in (0, *_LEVELS):
            raise ValueError(f"Apis.level is {self.level}; it is one of {', '.join(map(str, _LEVELS))}, or 0 for all")

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks whose levels take turns.

        ``meta["state"]`` says which changes must hold.
        """
        check_split(split, levels)
        if self.level:
            if self.level not in levels:
                raise ValueError(f"levels are {list(levels)}; the world {self.name!r} has level {self.level} alone")
            levels = (self.level,)
        return different(lambda level, place, key: self._task(split, level, f"{seed}/{key}"), count, levels)

    def _task(self, split: str, level: int, drawn: str) -> Task:
        key = f"{self.name}/{split}/{level}/{drawn}"
        plan = _plan(key)
        meta = {"verifier": "numeric", "level": level, "split": split, "state": {"changes": dict(plan.changes)}}
        return Task(id=key, prompt=plan.prompt, answer=str(plan.answer), world=self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session with the tools and tables of the task."""
        plan = _plan(task.id)

        def build(tables: Tables) -> tuple[Tool, ...]:
            return tuple(_tool(kind, noun, column, tables) for kind, noun, column in plan.kinds)

        return ToolSession(
            task, build, plan.tables, budget=Budget(total=self.calls), final=lambda t: {"changes": dict(t.changes)}
        )

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the calls that lead to the answer and make the changes, one per round, and the answer."""
        plan = _plan(task.id)
        return Demonstration(plan.rounds, str(plan.answer))


WORLD = Apis
