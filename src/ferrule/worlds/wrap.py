"""Worlds that wrap a world: other sessions (gates, aliases, recorders), other tools on offer, or other prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ferrule.core.flows import Session, World
from ferrule.core.records import Task

__all__ = ["Offering", "Worded", "Wrapped"]


@dataclass(frozen=True)
class Wrapped:
    """``world`` with ``wrap(session, task, seed)`` around each session that it starts; tasks are those of ``world``."""

    world: World
    wrap: Callable[[Session, Task, int], Session] = field(repr=False)

    @property
    def name(self) -> str:
        """The name of the wrapped world: tasks name their world by it."""
        return self.world.name

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return the tasks of the wrapped world."""
        return self.world.tasks(split, count, seed=seed, levels=levels)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Start the task inside and wrap its session."""
        return self.wrap(self.world.start(task, seed), task, seed)


@dataclass(frozen=True)
class Offering:
    """``world`` whose tasks offer ``tools`` only; an empty tuple gives the same tasks without tools."""

    world: World
    tools: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the wrapped world."""
        return self.world.name

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return the tasks of the wrapped world with these tools."""
        return [replace(task, tools=self.tools) for task in self.world.tasks(split, count, seed=seed, levels=levels)]

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session of the wrapped world."""
        return self.world.start(task, seed)


@dataclass(frozen=True)
class Worded:
    """``world`` whose tasks are what ``word`` makes of them: a date before the prompt, or the form of the answer.

    A task keeps its id and its world, by which the wrapped world knows it.
    """

    world: World
    word: Callable[[Task], Task] = field(repr=False)

    @property
    def name(self) -> str:
        """The name of the wrapped world."""
        return self.world.name

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return the tasks of the wrapped world in these words."""
        return [self.word(task) for task in self.world.tasks(split, count, seed=seed, levels=levels)]

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session of the wrapped world."""
        return self.world.start(task, seed)
