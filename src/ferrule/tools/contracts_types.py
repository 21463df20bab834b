"""Types of facts in contracts: their spellings, what fits them, and paths into values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

__all__ = ["TYPES", "Domains", "fits", "type_of", "walk"]

Domains: TypeAlias = Mapping[str, Callable[[Any], bool]]

TYPES = {
    "string": "string",
    "str": "string",
    "integer": "integer",
    "int": "integer",
    "float": "float",
    "number": "float",
    "boolean": "boolean",
    "bool": "boolean",
    "list": "list",
    "array": "list",
    "dict": "dict",
    "object": "dict",
}
"""Spellings of the plain types."""


def type_of(value: Any) -> str:
    """Return the plain type of a JSON value; null counts as a string, which says nothing."""
    for name in ("boolean", "integer", "float", "list", "dict"):
        if fits(value, name):
            return name
    return "string"


def fits(value: Any, kind: str, domains: Domains | None = None) -> bool:
    """Return whether a value that is not null is of a type; a domain check that fails or raises says no."""
    kind = TYPES.get(kind, kind)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("integer", "float"):
        return isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str)
    if kind == "list":
        return isinstance(value, list | tuple)
    if kind == "dict":
        return isinstance(value, Mapping)
    try:
        return value is not None and domains is not None and kind in domains and bool(domains[kind](value))
    except Exception:
        return False


def walk(value: Any, steps: tuple[str | int, ...]) -> Any:
    """Follow dict keys and list indices; raises ``LookupError`` where there is nothing."""
    for step in steps:
        if isinstance(value, Mapping):
            value = value[step] if step in value else value[str(step)]
        elif isinstance(value, list | tuple) and str(step).isdecimal():
            value = value[int(step)]
        else:
            raise LookupError(step)
    return value
