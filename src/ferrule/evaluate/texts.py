"""Texts scored by playing tasks with them: what ``ferrule.agents.text_search`` takes as a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ferrule.core.flows import Agent, Policy, World
from ferrule.core.records import Task
from ferrule.evaluate.evaluate import evaluate

__all__ = ["played_with"]


def played_with(
    make: Callable[[str], Agent], policy: Policy | Mapping[str, Policy], world: World, **settings: Any
) -> Callable[[str, Sequence[Task]], list[float]]:
    """Return the run (``RunItems``) that plays tasks by the agent ``make(text)`` and gives each its mean score.

    ``settings`` are those of ``ferrule.evaluate.evaluate.evaluate``.
    """

    def run(text: str, tasks: Sequence[Task]) -> list[float]:
        scores = evaluate(make(text), policy, world, tasks, **settings).scores()
        return [scores[task.id] for task in tasks]

    return run
