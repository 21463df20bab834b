"""Tools that fail for a while: a call is answered with an error first, and works when it is made again.

Tasks are chains of look-ups (``ferrule.worlds.chains``) whose number of calls is the level. Which calls fail first is
drawn per task and not told; one of them does at least. What is drawn for ``test`` is drawn by the rule of chains.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.worlds.chains import Route, reading, route_of
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, different

__all__ = ["WORLD", "Failing"]


@dataclass
class _Lines:
    """What an episode remembers: how often each cell was asked for."""

    asked: Counter[str] = field(default_factory=Counter)

    def read(self, route: Route, key: str, failing: Sequence[str]) -> int:
        self.asked[key] += 1
        if key in failing and self.asked[key] == 1:
            raise RuntimeError("the service is busy, call again")
        if key not in route.cells:
            raise KeyError(f"no entry {key}")
        return route.cells[key]


@dataclass(frozen=True)
class Failing:
    """Seeded chains, each of whose calls fails once with the chance ``share``. ``calls`` caps the tool calls."""

    share: float = 0.5
    calls: int = 16
    name: str = "failing"

    def __post_init__(self) -> None:
        """Refuse a share that is no chance."""
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"Failing.share is {self.share}; it must lie between 0 and 1")

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks whose levels take turns."""
        check_split(split, levels)
        return different(lambda level, place, key: self._task(split, level, f"{seed}/{key}"), count, levels)

    def _drawn(self, key: str) -> tuple[Route, tuple[str, ...]]:
        """Return the route of a task, and the cells of it that fail first."""
        _, split, level, _, _ = key.rsplit("/", 4)
        rng = random.Random(key)
        route = route_of(rng, split, int(level))
        cells = [f"{call.name}.{call.arguments['id']}" for call in route.calls]
        failing = tuple(cell for cell in cells if rng.random() < self.share)
        return route, failing or (rng.choice(cells),)

    def _task(self, split: str, level: int, drawn: str) -> Task:
        key = f"{self.name}/{split}/{level}/{drawn}"
        route, _ = self._drawn(key)
        meta = {"verifier": "numeric", "level": level, "split": split}
        return Task(id=key, prompt=f"What is {route.what}?", answer=str(route.answer), world=self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session; nothing has failed in it yet."""
        route, failing = self._drawn(task.id)

        def build(lines: _Lines) -> tuple[Tool, ...]:
            return tuple(
                reading(name, text, lambda key: lines.read(route, key, failing)) for name, text in route.texts.items()
            )

        return ToolSession(task, build, _Lines(), budget=Budget(total=self.calls))

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the calls, one per round, those that fail first twice, and the answer."""
        route, failing = self._drawn(task.id)
        rounds: list[tuple[Call, ...]] = []
        for call in route.calls:
            again = f"{call.name}.{call.arguments['id']}" in failing
            rounds += [(call,)] * (2 if again else 1)
        return Demonstration(tuple(rounds), str(route.answer))


WORLD = Failing
