"""Roles that other policies answer while one is trained: helpers, judges, simulators of tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ferrule.core.flows import Agent, Policy, World
from ferrule.core.records import Task
from ferrule.rollout.drive import Policies, drive
from ferrule.rollout.record import Episode

__all__ = ["beside"]


def beside(
    policies: Mapping[str, Policy], *, role: str = "solver", play: Callable[..., list[Episode]] = drive
) -> Callable[..., list[Episode]]:
    """Return a driver for ``train(..., play=...)``: ``policies`` answer by role, the trained one ``role``."""

    def played(agent: Agent, tasks: Sequence[Task], world: World, policy: Policies, **options: Any) -> list[Episode]:
        mine = dict(policy) if isinstance(policy, Mapping) else {role: policy}
        return play(agent, tasks, world, {**policies, **mine}, **options)

    return played
