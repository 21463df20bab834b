"""Several worlds as one: tasks are drawn in turn, and each is started by the world it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstrates, Demonstration
from ferrule.core.flows import Session, World
from ferrule.core.records import Task

__all__ = ["Mixed"]


@dataclass(frozen=True)
class Mixed:
    """A world made of ``worlds``; ``tasks`` interleaves theirs in equal shares."""

    worlds: tuple[World, ...]

    def __post_init__(self) -> None:
        """Refuse an empty list of worlds, and two of one name: a task names its world."""
        names = [world.name for world in self.worlds]
        if not names:
            raise ValueError("Mixed needs at least one world")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"Mixed holds two worlds named {name!r}; give one of them another name")

    @property
    def name(self) -> str:
        """Names of the parts, joined by a plus sign."""
        return "+".join(world.name for world in self.worlds)

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` tasks, one world after another.

        A world that has fewer than its share gives what it has. Raises ``ValueError`` for one that has none.
        """
        parts = len(self.worlds)
        columns = []
        for i, world in enumerate(self.worlds):
            share = -(-(count - i) // parts) if count > i else 0
            columns.append(world.tasks(split, share, seed=seed, levels=levels) if share else [])
            if share and not columns[i]:
                raise ValueError(f"world {world.name!r} has no {split} tasks to give")
        return [task for row in zip_longest(*columns) for task in row if task is not None]

    def start(self, task: Task, seed: int = 0) -> Session:
        """Start the task in the world it names."""
        return self._home(task).start(task, seed)

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the reference solution of the world that the task names; raises ``ValueError`` where it has none."""
        home = self._home(task)
        if not isinstance(home, Demonstrates):
            raise ValueError(f"the world {home.name!r} has no reference solutions")
        return home.demonstrate(task)

    def _home(self, task: Task) -> World:
        for world in self.worlds:
            if world.name == task.world:
                return world
        names = [world.name for world in self.worlds]
        raise ValueError(f"task {task.id!r} belongs to world {task.world!r}; {nearest(str(task.world), names)}")
