"""A benchmark as a world: its tasks by split, what opens their sessions, and how they are solved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Task
from ferrule.worlds.user import UserWorld

__all__ = ["Suite", "no_solution"]


def no_solution(task: Task) -> Demonstration:
    """Refuse to solve a task whose world knows no reference solution."""
    raise ValueError(f"task {task.id!r} comes without a reference solution")


@dataclass(frozen=True)
class Suite:
    """Tasks of a benchmark. ``opens`` starts a session of one, ``solves`` returns its reference solution."""

    name: str
    rows: Mapping[str, tuple[Task, ...]] = field(repr=False)
    opens: Callable[[Task], Session] = field(repr=False)
    solves: Callable[[Task], Demonstration] = field(repr=False)

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` tasks of a split, each once, in an order drawn from ``seed``.

        Raises ``ValueError`` for an unknown split, and for one that the benchmark's files do not hold.
        """
        return UserWorld(self.name, self.rows).tasks(split, count, seed=seed, levels=levels)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session of a task."""
        return self.opens(task)

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the reference solution; raises ``ValueError`` for a task without one."""
        return self.solves(task)
