"""Tasks with tools that nothing needs: solved is one that was answered rightly without a call.

Levels: 1 a sum or difference of one-digit numbers beside a calculator; 2 of two-digit numbers; 3 a fact that stands in
the prompt, beside a tool that looks it up; 4 one of two facts there; 5 one of four. The held-out split holds by
construction: by the CRC-32 of the expression, or of the noun and the field (as in ``ferrule.worlds.chains``).
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Task, Tool
from ferrule.tools.budget import Budget
from ferrule.tools.calculator import calculate
from ferrule.worlds.apis import split_of
from ferrule.worlds.chains import FIELDS, ID, NOUNS
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, different

__all__ = ["WORLD", "Unneeded"]

_EXPRESSION = {
    "type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"],
    "additionalProperties": False,
}  # fmt: skip


@dataclass(frozen=True)
class _Plan:
    """The prompt, the answer, the tools with the name of each noun's field, and what they would say."""

    prompt: str
    answer: int
    texts: Mapping[str, str]
    cells: Mapping[str, int]


def _sum(rng: random.Random, split: str, digits: int) -> _Plan:
    while True:
        low = 1 if digits == 1 else 10
        a, b = rng.randint(low, 10**digits - 1), rng.randint(low, 10**digits - 1)
        sign = rng.choice("+-")
        expression = f"{max(a, b)} {sign} {min(a, b)}"
        if (zlib.crc32(expression.encode()) % 5 == 0) == (split == "test"):
            break
    wording = rng.choice(("What is {}?", "Compute {}.", "Work out {}.", "{} = ?"))
    return _Plan(wording.format(expression), int(calculate(expression)), {}, {})


def _told(rng: random.Random, split: str, facts: int) -> _Plan:
    pairs = [(noun, column) for noun in NOUNS for column in FIELDS if split_of(noun, column) == split]
    ids = rng.sample(range(100, 1000), facts)  # different ones: no fact contradicts another
    told = [(*rng.choice(pairs), id, rng.randint(10, 999)) for id in ids]
    noun, column, number, value = told[0]
    rng.shuffle(told)
    said = " ".join(f"The {c} of {n} {i} is {v}." for n, c, i, v in told)
    texts = {f"{n}_{c}": f"{c} of a {n}" for n, c, _, _ in told}
    cells = {f"{n}_{c}.{i}": v for n, c, i, v in told}
    return _Plan(f"{said} What is the {column} of {noun} {number}?", value, texts, cells)


def _plan(key: str) -> _Plan:
    _, split, level, _, _ = key.rsplit("/", 4)
    rng, number = random.Random(key), int(level)
    return _sum(rng, split, number) if number < 3 else _told(rng, split, {3: 1, 4: 2, 5: 4}[number])


@dataclass
class _Count:
    """How many calls ran."""

    calls: int = 0


@dataclass(frozen=True)
class Unneeded:
    """Seeded tasks whose tools are to be left alone: ``meta["state"]`` asks for no call that ran.

    ``final()["calls"]`` tells how many did; ``calls`` caps them.
    """

    calls: int = 8
    name: str = "unneeded"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks whose levels take turns. Level 1 holds some 90 and no more."""
        check_split(split, levels)
        return different(lambda level, place, key: self._task(split, level, f"{seed}/{key}"), count, levels)

    def _task(self, split: str, level: int, drawn: str) -> Task:
        key = f"{self.name}/{split}/{level}/{drawn}"
        plan = _plan(key)
        meta = {"verifier": "numeric", "level": level, "split": split, "state": {"calls": 0}}
        return Task(id=key, prompt=plan.prompt, answer=str(plan.answer), world=self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session whose tools count their calls."""
        plan = _plan(task.id)

        def build(count: _Count) -> tuple[Tool, ...]:
            def calculated(expression: str) -> str:
                value = calculate(expression)
                count.calls += 1
                return str(value)

            def read(name: str, id: int) -> int:
                count.calls += 1
                if f"{name}.{id}" not in plan.cells:
                    raise KeyError(f"no entry {name}.{id}")
                return plan.cells[f"{name}.{id}"]

            if not plan.texts:
                return (Tool("calculator", "compute an arithmetic expression", _EXPRESSION, calculated),)
            return tuple(
                Tool(name, text, ID, lambda id, name=name: read(name, id)) for name, text in plan.texts.items()
            )

        return ToolSession(
            task, build, _Count(), budget=Budget(total=self.calls), final=lambda count: {"calls": count.calls}
        )

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the answer, which takes no call."""
        return Demonstration((), str(task.answer))


WORLD = Unneeded
