"""Eight small functions in a slow form, each with a pool of rewrites (``bank.toml``)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ferrule.worlds.pyopt.functions import Rewrite, SlowFunction

__all__ = ["SlowFamily", "families", "family_of", "slow_function"]


@dataclass(frozen=True)
class SlowFamily:
    """Functions that differ in name and in the size of their inputs; the last of the ``names`` is held out.

    ``best`` is the family of rewrites that an expert would name first. In texts ``NAME`` and ``SIZE`` stand for what is
    drawn; ``rewrites`` have a ``family``, a ``claim`` and a ``source`` each.
    """

    key: str
    level: int
    about: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    best: str
    slow: str
    inputs: Mapping[str, str]
    edges: tuple[str, ...]
    rewrites: Sequence[Mapping[str, Any]]


@cache
def families() -> tuple[SlowFamily, ...]:
    """Return all families."""
    text = files("ferrule.worlds.pyopt").joinpath("bank.toml").read_text(encoding="utf-8")
    return tuple(_family(entry) for entry in tomllib.loads(text)["family"])


def _family(entry: dict[str, Any]) -> SlowFamily:
    fields: dict[str, Any] = dict(entry)
    for name in ("names", "sizes", "edges"):
        fields[name] = tuple(fields[name])
    return SlowFamily(**fields)


def family_of(name: str) -> SlowFamily:
    """Return the family that a function's name belongs to; raises ``ValueError`` for another name."""
    for family in families():
        if name in family.names:
            return family
    raise ValueError(f"no function of the bank is called {name!r}")


def slow_function(family: SlowFamily, name: str, size: int) -> SlowFunction:
    """Return a function of a family by name and size."""
    rewrites = (Rewrite(r["family"], r["source"].replace("NAME", name), r["claim"]) for r in family.rewrites)
    return SlowFunction(
        name=name,
        source=family.slow.replace("NAME", name),
        inputs={kind: text.replace("SIZE", str(size)) for kind, text in family.inputs.items()},
        edges=family.edges,
        about=family.about,
        rewrites=tuple(rewrites),
    )
