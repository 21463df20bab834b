"""Agents with a memory on equal footing: a library that is learned on training tasks, then measured under a control.

Under every control but ``off`` the agent first plays a stream of training tasks, from which it keeps what worked; then
it plays the held-out tasks, which are the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.core.flows import Agent, Policy, World
from ferrule.core.records import Task
from ferrule.evaluate.evaluate import Evaluation
from ferrule.evaluate.stream import controlled, stream
from ferrule.memory.library import Library
from ferrule.memory.recall import library_memory

__all__ = ["Remembered", "play_remembering"]


@dataclass(frozen=True)
class Remembered:
    """An evaluation under a control, and how it was learned before.

    ``curve`` is the success over the batches that the library was learned from, ``learning`` the tokens that this took
    per task, ``entries`` the size of the library in the end.
    """

    evaluation: Evaluation
    curve: tuple[float, ...] = ()
    learning: float = 0.0
    entries: int = 0


def play_remembering(
    player: Agent, policy: Policy, world: World, learn: Sequence[Task], tasks: Sequence[Task], control: str, *,
    seed: int, batch: int = 8, **settings: Any,
) -> Remembered:  # fmt: skip
    """Let an agent learn a library of its own on the tasks ``learn``, and measure it on ``tasks`` under a control.

    ``settings`` are those of ``ferrule.evaluate.evaluate.evaluate``.
    """
    library = Library()
    memory, curve, written = library_memory(library), tuple[float, ...](), 0.0
    if learn and control != "off":
        taught = stream(player, policy, world, learn, memory, batch=batch, seed=seed, **settings)
        curve = tuple(point.success for point in taught.points)
        written = _tokens(taught.evaluation)
    measured = stream(
        player, policy, world, tasks, controlled(control, memory, tasks, seed=seed), batch=batch, seed=seed, **settings
    )
    entries = len(library)
    library.close()
    return Remembered(measured.evaluation, curve, written, entries)


def _tokens(evaluation: Evaluation) -> float:
    return float(sum(took["tokens"] for took in evaluation.as_dict()["by_role"].values()))
