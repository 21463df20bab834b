"""Suites: a world and the held-out tasks that an evaluation is run on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ferrule.core.flows import World
from ferrule.core.records import Task
from ferrule.worlds.named import world

__all__ = ["suite"]


def suite(
    name: str | Path,
    *,
    split: str = "test",
    count: int = 100,
    seed: int = 0,
    levels: Sequence[int] = (1, 2, 3, 4, 5),
    **options: Any,
) -> tuple[World, list[Task]]:
    """Return the world of a suite and at most ``count`` of its tasks, the same ones for the same seed.

    ``name`` and ``options`` (``data``, ``tools``, ``verifier``, ...) are those of ``ferrule.worlds.named.world``: every
    world is a suite.
    Raises what it raises, and ``ValueError`` for a ``count`` below 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}; a suite needs at least one task")
    home = world(name, **options)
    return home, home.tasks(split, count, seed=seed, levels=levels)
