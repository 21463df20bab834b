"""Recipes by name: those that published methods offer, and stacks of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, Protocol

from ferrule.core.arrays import nearest
from ferrule.core.recipe import Recipe

__all__ = ["Changes", "Make", "Published", "recipes_of", "stack"]

Make = Callable[[Recipe], Recipe]
Changes = Mapping[str, tuple[str, ...]]
"""Which members of a stack set a field of the recipe, in their order."""


class Published(Protocol):
    """What a published method offers here: its short name and its pieces."""

    @property
    def slug(self) -> str:
        """Short name."""
        ...

    @property
    def pieces(self) -> Mapping[str, Callable[..., Any]]:
        """Pieces by name."""
        ...


def recipes_of(papers: Iterable[Published]) -> dict[str, Make]:
    """Return every recipe of the papers: the piece ``recipe`` under the paper's slug, others under their own name."""
    recipes: dict[str, Make] = {}
    for paper in papers:
        for name, piece in paper.pieces.items():
            signature = inspect.signature(piece)
            single = [p for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
            required = [p for p in single if p.default is p.empty]
            makes = "Recipe" in str(signature.return_annotation) and [p.name for p in required] == ["base"]
            if makes:
                recipes[paper.slug if name == "recipe" else name] = piece
    return recipes


def stack(base: Recipe, names: str, known: Mapping[str, Make]) -> tuple[Recipe, Changes]:
    """Apply the recipes of ``a+b+c`` to ``base`` in that order and say which of them set which field.

    A field that several set holds what the last one made of it (rules that wrap the base's keep it inside). Raises
    ``ValueError`` on an unknown name.
    """
    recipe, changes = base, dict[str, list[str]]()
    for name in names.split("+"):
        if name not in known:
            raise ValueError(f"unknown recipe {name!r}; {nearest(name, list(known))}")
        before, recipe = recipe, known[name](recipe)
        for field in fields(Recipe):
            if getattr(before, field.name) is not getattr(recipe, field.name):
                changes.setdefault(field.name, []).append(name)
    return recipe, {field: tuple(by) for field, by in changes.items()}
