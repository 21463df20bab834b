"""A set of tools that grows from step to step: what was kept decides which are on offer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ferrule.core.records import Message, Score, Task, Tool
from ferrule.memory.memory import Memory, Played, Recalled

__all__ = ["Grow", "Offer", "offered_tools"]

Offer: TypeAlias = Callable[[Any], Sequence[Tool]]
"""Makes tools from what is held."""
Grow: TypeAlias = Callable[[Any, Played, Sequence[Score]], Any]
"""Returns what is held after a scored episode."""


def offered_tools(offer: Offer, grow: Grow, held: Any = None) -> Memory:
    """Return the memory that offers ``offer(held)`` beside the tools of a world, to every task.

    ``held`` is where it begins, as JSON data; each episode that is kept changes it by ``grow``. In training all
    episodes of a step are offered the same tools, and a checkpoint holds what they are made from, so that a run which
    is resumed goes on with the same.
    """
    box = [held]

    def recall(task: Task, messages: Sequence[Message]) -> Recalled:
        tools = tuple(offer(box[0]))
        return Recalled("", tools, tuple(tool.name for tool in tools))

    def keep(episode: Played, scores: Sequence[Score]) -> None:
        box[0] = grow(box[0], episode, scores)

    def load(state: Any) -> None:
        box[0] = state

    return Memory(recall, keep, lambda: box[0], load, lambda: {"memory/tools": float(len(offer(box[0])))})
