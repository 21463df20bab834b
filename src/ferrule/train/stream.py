"""The order in which a run goes through the tasks of a world."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from ferrule.core.flows import World
from ferrule.core.records import Task
from ferrule.rollout.drive import seed_of

__all__ = ["Stream"]


class Stream:
    """An endless, seeded stream of tasks whose position is one number, so that a resumed run goes on where it was."""

    def __init__(self, world: World, split: str, levels: Sequence[int], seed: int, position: int = 0) -> None:
        self.world, self.split, self.levels, self.seed, self.position = world, split, tuple(levels), seed, position
        self._block: tuple[int, list[Task]] = (-1, [])

    def _tasks(self, block: int) -> list[Task]:
        if self._block[0] != block:
            seed = seed_of(self.seed, "tasks", block)
            tasks = self.world.tasks(self.split, 240, seed=seed, levels=self.levels)
            random.Random(seed).shuffle(tasks)
            self._block = (block, tasks)
        return self._block[1]

    def __call__(self, count: int) -> list[Task]:
        """Return the next ``count`` tasks."""
        drawn: list[Task] = []
        block, offset = divmod(self.position, 240)
        self.position += count
        while len(drawn) < count:
            tasks = self._tasks(block)
            if not tasks:
                raise ValueError(f"world {self.world.name!r} has no tasks in split {self.split!r}")
            drawn += [self._pick(tasks, block, i) for i in range(offset, min(240, offset + count - len(drawn)))]
            block, offset = block + 1, 0
        return drawn

    def _pick(self, tasks: list[Task], block: int, i: int) -> Task:
        """A data set smaller than a block is gone through again; ``meta["pass"]`` then sets the passes apart."""
        again = (block * 240 + i) // len(tasks) if len(tasks) < 240 else 0
        task = tasks[i % len(tasks)]
        return replace(task, meta={**task.meta, "pass": again}) if again else task
