"""Methods that learn from rows or pairs as entries of an arena, beside the recipes that learn from own episodes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Protocol

from ferrule.core.arrays import by_name, nearest
from ferrule.core.flows import World
from ferrule.core.recipe import Drawn, Method, Part, Recipe, Stage
from ferrule.data.formats import Row
from ferrule.evaluate.controls import CONTROLS
from ferrule.evaluate.recipes import Changes, Make, Published, recipes_of, stack
from ferrule.train.stage import best_and_worst, demonstrations, dpo, ipo, kto, labelled, rpo, sft, simpo

__all__ = ["METHODS", "Known", "MakeMethod", "entry", "known_of"]

_ROUNDS = 1_000_000
"""More than any budget pays for."""
_MOST_ROWS = 8_000
"""Where solutions have next to no tokens, they come again after so many."""


class MakeMethod(Protocol):
    """Makes a method of a base recipe and a world: ``tasks`` are those of a step or round, ``budget`` counts tokens."""

    def __call__(
        self, base: Recipe, world: World, *, tasks: int, levels: Sequence[int], seed: int, budget: int
    ) -> Method | Part:
        """Return the method; raises ``ValueError`` where the world cannot serve it."""
        ...


def _shown(world: World, tasks: int, levels: Sequence[int], seed: int, *, budget: int, **settings: Any) -> Stage:
    """Learn from as many reference solutions as the budget pays for: like played tasks, none comes twice."""
    source = demonstrations(world, tasks=15 * tasks, levels=levels, seed=seed)

    def enough(policy: Any, lap: int) -> list[Row]:
        rows: list[Row] = []
        learned = 0
        for part in count():
            drawn = source(policy, part)
            block = drawn.items if isinstance(drawn, Drawn) else drawn
            rows += block
            learned += sum(turn >= 0 for row in block for turn in row.turn)
            if not block or learned >= budget or len(rows) >= _MOST_ROWS:
                break
        return rows

    return sft(enough, gradient_accumulation_steps=1, per_device_train_batch_size=tasks, **settings)


def _sft(base: Recipe, world: World, *, tasks: int, levels: Sequence[int], seed: int, budget: int) -> Stage:
    """Learn from the world's reference solutions; the budget counts the tokens that are learned from."""
    return _shown(world, tasks, levels, seed, budget=budget)


def _preferred(
    make: Any, source: Any, base: Recipe, world: World, *, tasks: int, levels: Sequence[int], seed: int, budget: int
) -> Method:
    """Round by round: play the base recipe and take two steps on the pairs, or rows, that ``source`` makes of it.

    The weights that played a round are its reference.
    """
    items = source(base, world, tasks=tasks, levels=levels, seed=seed)
    options = {"max_steps": 2, "warmup_steps": 0, "gradient_accumulation_steps": 1}
    drawn = tasks * (base.num_generations if source is labelled else 1)  # a row per episode, at most a pair per task
    return Method((make(items, per_device_train_batch_size=max(drawn // 2, 1), **options),), rounds=_ROUNDS)


METHODS: Mapping[str, MakeMethod] = {
    "sft": _sft,
    **{make.__name__: partial(_preferred, make, best_and_worst) for make in (dpo, ipo, simpo, rpo)},
    "kto": partial(_preferred, kto, labelled),
}
"""Methods by name."""


@dataclass(frozen=True)
class Known:
    """What an arena may name: recipes, which change one another, and methods, which stand alone."""

    recipes: Mapping[str, Make]
    methods: Mapping[str, MakeMethod]


def known_of(papers: Iterable[Published]) -> Known:
    """Return ``METHODS``, ``CONTROLS``, and the recipes and methods of the papers.

    A piece that returns a ``Method``, ``Roles`` or ``Stage`` and asks for nothing but what ``MakeMethod`` is given is
    known as ``SLUG-PIECE``, such as ``thor-method``.
    """
    published = list(papers)
    methods = dict(METHODS)
    for paper in published:
        for name, piece in paper.pieces.items():
            signature = inspect.signature(piece)
            single = [p for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
            required = {p.name for p in single if p.default is p.empty}
            makes = str(signature.return_annotation) in ("Method", "Roles", "Stage")
            if makes and "base" in required and required <= {"base", *_GIVEN}:
                methods[f"{paper.slug}-{name}"] = partial(_published, piece)
    return Known({**CONTROLS, **recipes_of(published)}, methods)


_GIVEN = ("world", "tasks", "levels", "seed", "budget")


def _published(piece: Callable[..., Method | Part], base: Recipe, world: World, **settings: Any) -> Method | Part:
    method: Method | Part = by_name(piece, {"base": base, "world": world, **settings})
    return method


def entry(
    name: str, base: Recipe, world: World, known: Known, *, tasks: int, levels: Sequence[int], seed: int,
    budget: int,
) -> tuple[Method | Part, Changes]:  # fmt: skip
    """Return what a name of an arena stands for, and which recipe of a stack set which field.

    A name is that of a method, a stack of recipes ``a+b``, or ``sft+a+b``: supervised fine-tuning for a quarter of the
    budget, then the stack. Raises ``ValueError`` on an unknown name, another method in a stack, and a world that cannot
    serve a method.
    """
    members = name.split("+")
    for member in members:
        if member not in known.recipes and member not in known.methods:
            names = [*known.recipes, *known.methods]
            raise ValueError(f"unknown recipe or method {member!r}; {nearest(member, names)}")
    try:
        if name in known.methods:
            return known.methods[name](base, world, tasks=tasks, levels=levels, seed=seed, budget=budget), {}
        first, *rest = members
        recipes = rest if first == "sft" else members
        for member in recipes:
            if member in known.methods:
                problem = "must stand first" if member == "sft" else "cannot be stacked"
                raise ValueError(f"{member!r} {problem}; a stack holds recipes, with 'sft' before them or without")
        recipe, changes = stack(base, "+".join(recipes), known.recipes)
        if recipes is members:
            return recipe, changes
        first_part = max(budget // 4, 1)
        shown = _shown(world, tasks, levels, seed, budget=first_part, max_sampled_tokens=first_part)
        return Method((shown, recipe)), changes
    except ValueError as error:
        raise ValueError(f"{name!r} cannot run in this arena: {error}") from error
