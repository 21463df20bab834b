"""Methods that learn from rows or pairs as entries of an arena, beside the recipes that learn from own episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from ferrule.core.arrays import nearest
from ferrule.core.flows import World
from ferrule.core.recipe import Method, Part, Recipe, Stage
from ferrule.evaluate.recipes import Changes, Make, stack
from ferrule.train.stage import best_and_worst, demonstrations, dpo, ipo, rpo, sft, simpo

__all__ = ["METHODS", "MakeMethod", "entry"]

_ROUNDS = 1_000_000
"""More than any budget pays for."""


class MakeMethod(Protocol):
    """Makes a method of a base recipe and a world: ``tasks`` are those of a step or round, ``budget`` counts tokens."""

    def __call__(
        self, base: Recipe, world: World, *, tasks: int, levels: Sequence[int], seed: int, budget: int
    ) -> Method | Part:
        """Return the method; raises ``ValueError`` where the world cannot serve it."""
        ...


def _shown(world: World, tasks: int, levels: Sequence[int], seed: int, **settings: Any) -> Stage:
    source = demonstrations(world, tasks=15 * tasks, levels=levels, seed=seed)
    return sft(source, gradient_accumulation_steps=1, per_device_train_batch_size=tasks, **settings)


def _sft(base: Recipe, world: World, *, tasks: int, levels: Sequence[int], seed: int, budget: int) -> Stage:
    """Learn from the world's reference solutions; the budget counts the tokens that are learned from."""
    return _shown(world, tasks, levels, seed)


def _preferred(
    make: Any, base: Recipe, world: World, *, tasks: int, levels: Sequence[int], seed: int, budget: int
) -> Method:
    """Round by round: play the base recipe, pair the best episode of a task with the worst, and take two steps on them.

    The weights that played a round are its reference.
    """
    pairs = best_and_worst(base, world, tasks=tasks, levels=levels, seed=seed)
    own = {"max_steps": 2, "warmup_steps": 0, "gradient_accumulation_steps": 1}
    return Method((make(pairs, per_device_train_batch_size=max(tasks // 2, 1), **own),), rounds=_ROUNDS)


METHODS: Mapping[str, MakeMethod] = {
    "sft": _sft,
    **{make.__name__: partial(_preferred, make) for make in (dpo, ipo, simpo, rpo)},
}
"""Methods by name. ``kto`` is missing: it needs labelled rows, which no world has."""


def entry(
    name: str, base: Recipe, world: World, known: Mapping[str, Make], *, tasks: int, levels: Sequence[int], seed: int,
    budget: int,
) -> tuple[Method | Part, Changes]:  # fmt: skip
    """Return what a name of an arena stands for, and which recipe of a stack set which field.

    A name is that of a method, a stack of recipes ``a+b``, or ``sft+a+b``: supervised fine-tuning for a quarter of the
    budget, then the stack. Raises ``ValueError`` on an unknown name, another method in a stack, and a world that cannot
    serve a method.
    """
    members = name.split("+")
    for member in members:
        if member not in known and member not in METHODS:
            raise ValueError(f"no recipe or method {member!r}; {nearest(member, [*known, *METHODS])}")
    try:
        if name in METHODS:
            return METHODS[name](base, world, tasks=tasks, levels=levels, seed=seed, budget=budget), {}
        first, *rest = members
        recipes = rest if first == "sft" else members
        for member in recipes:
            if member in METHODS:
                told = "must stand first" if member == "sft" else "cannot be stacked"
                raise ValueError(f"{member!r} {told}; a stack holds recipes, with 'sft' before them or without")
        recipe, changes = stack(base, "+".join(recipes), known)
        if recipes is members:
            return recipe, changes
        return Method((_shown(world, tasks, levels, seed, max_sampled_tokens=max(budget // 4, 1)), recipe)), changes
    except ValueError as error:
        raise ValueError(f"{name!r} cannot run in this arena: {error}") from error
