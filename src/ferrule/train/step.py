"""One step of training as an object: what it works with, what it hands back, and what of it moves.

Every step is called with its number within the part of the method it belongs to, and hands out what moves beside
weights and optimiser, so that the loop around it can store and restore everything. ``train.on_policy`` and
``train.on_data`` make them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ferrule.rollout.drive import Limits, drive
from ferrule.rollout.record import Episode
from ferrule.train.policy import Trains
from ferrule.train.sample import Group
from ferrule.train.settings import Settings, rate
from ferrule.train.update import Lesson, learn

__all__ = ["Equipment", "Step", "Taken"]


@dataclass(frozen=True)
class Equipment:
    """What every step works with: policy, optimiser, settings, processes, the driver and its limits.

    ``whole`` is the context in which the policy has whole weights, when these are cut over processes.
    """

    policy: Trains
    optimiser: Any
    settings: Settings
    pool: Any = None
    limits: Limits | None = None
    play: Callable[..., list[Episode]] = drive
    whole: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext

    @property
    def processes(self) -> int:
        """Number of processes that train together."""
        return 1 if self.pool is None else int(self.pool.num_processes)

    def learn(self, lessons: Sequence[Lesson], step: int, *, seed: int, rows: int, **options: Any) -> dict[str, float]:
        """Set the learning rate of a step, learn, and return the metrics with it."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.settings, step)
        metrics = learn(
            self.policy, lessons, self.optimiser, rows=rows, max_grad_norm=self.settings.max_grad_norm, seed=seed,
            pool=self.pool, **options,
        )  # fmt: skip
        return {**metrics, **getattr(self.policy, "metrics", {}), "learning_rate": rate(self.settings, step)}


@dataclass(frozen=True)
class Taken:
    """What a step did: its metrics, the groups it played, and the tokens that count against a budget."""

    metrics: Mapping[str, float]
    spent: int = 0
    groups: tuple[Group, ...] = ()


class Step(Protocol):
    """One kind of training step."""

    def __call__(self, step: int) -> Taken:
        """Take a step (its number in the part, from 0)."""
        ...

    @property
    def settled(self) -> bool:
        """Whether nothing waits in buffers that ``state`` does not hold."""
        ...

    def settle(self) -> None:
        """Drop what waits in buffers: the next step starts from what ``state`` holds."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what moves, as JSON data."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` returned."""
        ...

    def close(self) -> None:
        """End what runs beside the step."""
        ...
