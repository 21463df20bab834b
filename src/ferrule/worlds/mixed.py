"""Several worlds as one: tasks are drawn in turn, and each is started by the world it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ferrule.core.arrays import nearest
from ferrule.core.records import Session, Task, World

__all__ = ["Mixed"]


@dataclass(frozen=True)
class Mixed:
    """A world made of ``worlds``; ``tasks`` interleaves theirs in equal shares."""

    worlds: tuple[World, ...]

    @property
    def name(self) -> str:
        """Names of the parts, joined by a plus sign."""
        return "+".join(world.name for world in self.worlds)

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return ``count`` tasks, one world after another."""
        parts = len(self.worlds)
        columns = [
            world.tasks(split, -(-(count - i) // parts), seed=seed, levels=levels) if count > i else []
            for i, world in enumerate(self.worlds)
        ]
        return [columns[i % parts][i // parts] for i in range(count)]

    def start(self, task: Task, seed: int = 0) -> Session:
        """Start the task in the world it names."""
        for world in self.worlds:
            if world.name == task.world:
                return world.start(task, seed)
        names = [world.name for world in self.worlds]
        raise ValueError(f"task {task.id!r} belongs to world {task.world!r}; {nearest(str(task.world), names)}")
