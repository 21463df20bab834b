"""Agents by name, with settings: ``loop``, ``best-of-n``, ``dfsdt:width=3``.

A module of this package that sets ``AGENTS`` to its classes by name is found by walking it; there is no list to keep.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from ferrule.agents import values
from ferrule.agents.search import Budget
from ferrule.core.arrays import nearest
from ferrule.core.flows import Agent
from ferrule.core.settings import field_types, settings_from_text

__all__ = ["agent", "agent_names", "searches", "temperature_for"]


@cache
def _kinds() -> Mapping[str, type[Any]]:
    package = importlib.import_module("ferrule.agents")
    kinds: dict[str, type[Any]] = {}
    for entry in pkgutil.iter_modules(package.__path__, "ferrule.agents."):
        kinds |= getattr(importlib.import_module(entry.name), "AGENTS", {})
    return dict(sorted(kinds.items()))


def agent_names() -> list[str]:
    """Return every name that ``agent`` knows."""
    return list(_kinds())


def temperature_for(text: str) -> float:
    """Return the temperature of an agent where none is given: 1 where it draws several steps, which should differ."""
    return 0.0 if text.partition(":")[0] == "loop" else 1.0


def searches(text: str) -> bool:
    """Say whether the agent that ``text`` names takes a budget; raises ``ValueError`` for an unknown one."""
    return hasattr(agent(text), "budget")


def agent(text: str, *, tokens: int | None = None, **settings: Any) -> Agent:
    """Return the agent that ``NAME`` or ``NAME:field=value,...`` names.

    Fields are those of the agent's class that hold numbers, texts, truth values, and the name of a value or a pick of
    ``ferrule.agents.values`` (``beam:value=calls_that_ran``). ``tokens`` is the budget of agents that search;
    ``settings`` are fields as well, of which the text wins. Raises ``ValueError`` naming what is there.
    """
    name, _, written = text.partition(":")
    if name not in _kinds():
        raise ValueError(f"unknown agent {name!r}; {nearest(name, agent_names())}")
    kind = _kinds()[name]
    types = field_types(kind)
    offered = {of: {one: getattr(values, one) for one in known} for of, known in values.NAMED.items()}
    chosen: dict[str, Any] = {key: value for key, value in settings.items() if key in types}
    chosen |= settings_from_text(name, kind, written, offered)
    if tokens is not None:
        if "budget" not in types:
            raise ValueError(f"agent {name!r} does not search, so a budget of tokens would do nothing")
        chosen["budget"] = Budget(tokens=tokens)
    built: Agent = kind(**chosen)
    return built
