"""Steps that learn from the policy's own episodes: one recipe, or several roles together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ferrule.core.flows import World
from ferrule.core.recipe import Recipe, Roles
from ferrule.rollout.drive import seed_of
from ferrule.rollout.spent import added
from ferrule.train.ahead import Ahead
from ferrule.train.check import groups_per_step
from ferrule.train.remember import counts_of, keep_groups, load_memories, states_of
from ferrule.train.sample import Batch, Group, credit, gathered, kept_of, sample, stats
from ferrule.train.step import Equipment, Step, Taken
from ferrule.train.stream import Stream
from ferrule.train.update import Lesson, sequences

__all__ = ["on_policy", "on_roles"]


class _Streamed:
    """Steps over a stream of tasks: its position moves, and so do the memories of the recipes."""

    def __init__(self, world: World, equipment: Equipment, recipes: Mapping[str, Recipe]) -> None:
        settings = equipment.settings
        self.equipment, self.world, self.recipes = equipment, world, recipes
        self.stream = Stream(world, settings.split, settings.levels, settings.seed)

    @property
    def settled(self) -> bool:
        return True

    def settle(self) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {"position": self.stream.position, **states_of(self.recipes)}

    def load(self, state: Mapping[str, Any]) -> None:
        self.stream.position = int(state["position"])
        load_memories(self.recipes, state, self.equipment.pool)

    def close(self) -> None:
        pass


class _OnPolicy(_Streamed):
    def __init__(self, recipe: Recipe, world: World, equipment: Equipment) -> None:
        super().__init__(world, equipment, {"": recipe})
        self.recipe, self.carry = recipe, list[Group]()
        self.groups = groups_per_step(recipe, equipment.settings, equipment.processes)
        policy: Any = equipment.policy
        ahead = equipment.settings.sample_ahead
        self.ahead = Ahead(self._sampled, policy, self._starts_anew) if ahead else None

    def _sampled(self, step: int, policy: Any) -> Batch:
        equipment = self.equipment
        seed = seed_of(equipment.settings.seed, "sample")
        with equipment.whole():
            return sample(
                self.recipe, self.stream, self.groups, self.world, policy, seed=seed, step=step,
                limits=equipment.limits, pool=equipment.pool, play=equipment.play, carry=self.carry,
            )  # fmt: skip

    def _starts_anew(self, step: int) -> bool:
        """Whether the batch of a step may not be begun early: it follows a checkpoint, or the end."""
        settings = self.equipment.settings
        return step >= settings.max_steps or bool(settings.save_steps and step % settings.save_steps == 0)

    def __call__(self, step: int) -> Taken:
        equipment, recipe, began = self.equipment, self.recipe, time.perf_counter()
        stale: dict[str, float] = {}
        if self.ahead is not None:
            batch, stale = self.ahead(step, recipe.temperature)
        else:
            batch = self._sampled(step, equipment.policy)
        sampled = time.perf_counter()
        metrics = equipment.learn(
            [_lesson(recipe, batch)],
            step,
            rows=equipment.settings.per_device_train_batch_size,
            num_iterations=recipe.num_iterations,
            num_mini_batches=recipe.num_mini_batches,
            mini_batch_size=recipe.mini_batch_size,
            max_log_ratio=recipe.max_log_ratio,
            seed=seed_of(equipment.settings.seed, "update", step),
        )
        times = {"seconds/sample": sampled - began, "seconds/update": time.perf_counter() - sampled}
        return Taken(
            {**stats(batch), **counts_of(self.recipes), **metrics, **stale, **times}, batch.sampled, batch.groups
        )

    @property
    def settled(self) -> bool:
        return self.ahead is None and not self.carry

    def settle(self) -> None:
        self.carry.clear()

    def close(self) -> None:
        if self.ahead is not None:
            self.ahead.close()


def _lesson(recipe: Recipe, batch: Batch) -> Lesson:
    return Lesson(sequences(batch), recipe.objective, recipe.reduce, recipe.temperature, recipe.reference)


def on_policy(recipe: Recipe, world: World, equipment: Equipment) -> Step:
    """Return the step that plays episodes of a world, scores them by the recipe, and learns from them."""
    return _OnPolicy(recipe, world, equipment)


class _OnRoles(_Streamed):
    def __init__(self, roles: Roles, world: World, equipment: Equipment) -> None:
        super().__init__(world, equipment, roles.recipes)
        self.roles, self.groups = roles, groups_per_step(roles, equipment.settings, equipment.processes)

    def _batches(self, step: int) -> dict[str, Batch]:
        equipment, recipes = self.equipment, self.roles.recipes
        tasks = self.stream(self.groups)
        if equipment.pool is not None:
            shares = np.array_split(np.asarray(tasks, dtype=object), equipment.processes)
            tasks = list(shares[equipment.pool.process_index])
        with equipment.whole():
            played = self.roles.play(
                recipes, tasks, self.world, equipment.policy, step=step,
                seed=seed_of(equipment.settings.seed, "sample", step), limits=equipment.limits, play=equipment.play,
            )  # fmt: skip
            if set(played) != set(recipes):
                raise ValueError(f"Roles.play returned groups of {sorted(played)}; the roles are {sorted(recipes)}")
            whole = {name: gathered(list(played[name]), equipment.pool) for name in recipes}
            for name, recipe in recipes.items():
                keep_groups(recipe, whole[name], equipment.pool)
            return {name: _credited(recipe, whole[name], equipment.policy, step) for name, recipe in recipes.items()}

    def __call__(self, step: int) -> Taken:
        equipment, began, names = self.equipment, time.perf_counter(), list(self.roles.recipes)
        batches = self._batches(step)
        sampled = time.perf_counter()
        learning = self.roles.trains or tuple(names)
        training = (learning[step % len(learning)],) if self.roles.alternate else learning
        first = self.roles.recipes[names[0]]
        metrics = equipment.learn(
            [_lesson(self.roles.recipes[name], batches[name]) for name in training],
            step,
            rows=equipment.settings.per_device_train_batch_size,
            num_iterations=first.num_iterations,
            num_mini_batches=first.num_mini_batches,
            mini_batch_size=first.mini_batch_size,
            max_log_ratio=first.max_log_ratio,
            seed=seed_of(equipment.settings.seed, "update", step),
        )
        by_role = {f"{name}/{key}": value for name in names for key, value in stats(batches[name]).items()}
        times = {"seconds/sample": sampled - began, "seconds/update": time.perf_counter() - sampled}
        spent = sum(batch.sampled for batch in batches.values())
        groups = tuple(group for batch in batches.values() for group in batch.groups)
        return Taken(
            {
                **stats(batches[names[0]]),
                **by_role,
                **counts_of(self.recipes),
                **metrics,
                "tokens/sampled": float(spent),
                **times,
            },
            spent,
            groups,
        )


def _credited(recipe: Recipe, groups: Sequence[Group], policy: object, step: int) -> Batch:
    kept = kept_of(recipe, groups)
    episodes = [episode for group in groups for episode in group.episodes]
    return replace(
        credit(recipe, kept, policy, step=step),
        dropped=len(groups) - len(kept),
        drifted=sum(episode.drifted for episode in episodes),
        sampled=sum(episode.sampled_count for episode in episodes),
        spent=added(episode.spent for episode in episodes),
    )


def on_roles(roles: Roles, world: World, equipment: Equipment) -> Step:
    """Return the step that plays several roles and trains them together, or in turn.

    Metrics of a role stand under its name (``solver/reward/mean``); those without one are the first role's.
    """
    return _OnRoles(roles, world, equipment)
