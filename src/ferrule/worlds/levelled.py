"""A world that always gives tasks of the same levels, whatever it is asked for: a member of a mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ferrule.core.demonstration import Demonstrates, Demonstration
from ferrule.core.flows import Session, World
from ferrule.core.records import Task

__all__ = ["Levelled"]


@dataclass(frozen=True)
class Levelled:
    """``world`` with tasks of ``levels`` alone, so that members of ``Mixed`` may each have levels of their own."""

    world: World
    at: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the world inside: tasks name their world by it."""
        return self.world.name

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return tasks of the levels ``at``; ``levels`` does nothing."""
        return self.world.tasks(split, count, seed=seed, levels=self.at)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Start the task in the world inside."""
        return self.world.start(task, seed)

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the reference solution of the world inside; raises ``ValueError`` where it has none."""
        if not isinstance(self.world, Demonstrates):
            raise ValueError(f"the world {self.name!r} has no reference solutions")
        return self.world.demonstrate(task)
