"""Memories in training: what was played is kept, and a checkpoint holds what the memory held.

A recipe whose agent is a ``ferrule.agents.remembering.Remembering`` has a memory. Every episode that was scored is
kept, those of groups that do not train included, before the next batch is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ferrule.agents.remembering import Remembering
from ferrule.core.recipe import Recipe
from ferrule.memory.memory import Memory

__all__ = ["counts_of", "keep_groups", "load_memories", "memory_of", "states_of"]


def memory_of(recipe: Recipe) -> Memory | None:
    """Return the memory of a recipe's agent, None where it has none."""
    return recipe.agent.memory if isinstance(recipe.agent, Remembering) else None


def keep_groups(recipe: Recipe, groups: Sequence[Any], pool: Any = None) -> None:
    """Hand the episodes of groups (``ferrule.train.sample.Group``) to the memory, with the scores of their paths.

    Of several processes the first one keeps all, and the others wait for it.
    """
    memory = memory_of(recipe)
    if memory is None:
        return
    if pool is None or pool.is_main_process:
        for group in groups:
            for place, episode in enumerate(group.episodes):
                pairs = zip(group.scores, group.owners, strict=True)
                scores = [score for score, owner in pairs if owner == place]
                if scores:
                    memory.keep(episode, scores)
    if pool is not None:
        pool.wait_for_everyone()


def counts_of(recipes: Mapping[str, Recipe]) -> dict[str, float]:
    """Return what the memories say of themselves, for the log; of several recipes under their names."""
    counts: dict[str, float] = {}
    for name, recipe in recipes.items():
        memory = memory_of(recipe)
        if memory is not None and memory.counts is not None:
            counts |= {f"{name}/{key}" if name else key: value for key, value in memory.counts().items()}
    return counts


def states_of(recipes: Mapping[str, Recipe]) -> dict[str, Any]:
    """Return the states of memories under ``memory``, by the recipe's name; nothing where no memory has one."""
    memories = {name: memory_of(recipe) for name, recipe in recipes.items()}
    states = {name: m.state() for name, m in memories.items() if m is not None and m.state is not None}
    return {"memory": states} if states else {}


def load_memories(recipes: Mapping[str, Recipe], state: Mapping[str, Any], pool: Any = None) -> None:
    """Put back what ``states_of`` returned; of several processes the first one does, and the others wait for it."""
    for name, kept in state.get("memory", {}).items():
        memory = memory_of(recipes[name]) if name in recipes else None
        if memory is None or memory.load is None:
            raise ValueError("the checkpoint holds a memory, and the recipe to go on with has none; give it the same")
        if pool is None or pool.is_main_process:
            memory.load(kept)
    if pool is not None and state.get("memory"):
        pool.wait_for_everyone()
