"""Which tasks a policy cannot solve without tools: those that are worth learning tools on.

Sources: "Toward Effective Tool-Integrated Reasoning via Self-Evolved Preference Learning" (paper 27), and "THOR:
Tool-Integrated Hierarchical Optimization via RL for Mathematical Reasoning" (paper 39).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Agent, Policy, Reward, World
from ferrule.core.records import Task
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive, seed_of

__all__ = ["unsolved"]


def unsolved(
    tasks: Sequence[Task], world: World, policy: Policy, *, samples: int = 5, most: int = 4000,
    base: Reward = outcome, agent: Agent | None = None, seed: int = 0,
) -> list[Task]:  # fmt: skip
    """Return the first ``most`` tasks that a policy gets wrong without tools in all of ``samples`` tries."""
    bare = [replace(task, tools=()) for task in tasks]
    how: dict[str, Any] = {"num_generations": samples, "temperature": 1.0, "seed": seed_of(seed, "no tools")}
    episodes = drive(agent or ToolLoop(turns=1), bare, world, policy, **how)
    kept = []
    for place, task in enumerate(tasks):
        tried = episodes[place * samples : (place + 1) * samples]
        if not any(base(task, [episode.trajectories[0]])[0].value >= 1 for episode in tried):
            kept.append(task)
    return kept[:most]
