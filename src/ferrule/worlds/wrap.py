"""A world whose every session is put inside another: gates, aliases, recorders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ferrule.core.records import Session, Task, World

__all__ = ["Wrapped"]


@dataclass(frozen=True)
class Wrapped:
    """``world`` with ``wrap(session, task, seed)`` around each session that it starts; tasks are those of ``world``."""

    world: World
    wrap: Callable[[Session, Task, int], Session] = field(repr=False)

    @property
    def name(self) -> str:
        """The name of the world inside: tasks say by it where they belong."""
        return self.world.name

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return the tasks of the world inside."""
        return self.world.tasks(split, count, seed=seed, levels=levels)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Start the task inside and wrap its session."""
        return self.wrap(self.world.start(task, seed), task, seed)
