"""What the apps share: pages of long lists, dates and times, the mark of calls that write, methods as tools."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ferrule.core.records import Effect, Tool
from ferrule.tools.invoke import arguments
from ferrule.tools.tool import tool
from ferrule.worlds.apps.store import Row, Store

__all__ = ["PER_PAGE", "bound", "day", "functions", "paged", "time", "tools_of", "writes"]

PER_PAGE = 10
"""Entries on one page of a list."""

Method = TypeVar("Method", bound=Callable[..., Any])


def writes(method: Method) -> Method:
    """Mark a method that changes the database."""
    method.writes = True  # type: ignore[attr-defined]
    return method


def paged(rows: Sequence[Any], page: int) -> Row:
    """Return one page of a list: ``items``, the number of the ``page``, of ``pages``, and the ``total`` of entries."""
    start = (page - 1) * PER_PAGE
    pages = max(1, -(-len(rows) // PER_PAGE))
    return {"items": list(rows[start : start + PER_PAGE]), "page": page, "pages": pages, "total": len(rows)}


def day(text: str) -> str:
    """Return a date as ``2026-05-18``; raises ``ValueError`` for anything else."""
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a date; write it like 2026-05-18") from None


def time(text: str) -> str:
    """Return a time as ``09:30``; raises ``ValueError`` for anything else."""
    try:
        return datetime.time.fromisoformat(text).strftime("%H:%M")
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a time; write it like 09:30") from None


def tools_of(app: type) -> dict[str, Tool]:
    """Return a tool per public method of an app, named ``app_method``, with the schema of its signature and docs.

    The tools are patterns without a database: ``bound`` makes them callable.
    """
    tools = {}
    for name, method in vars(app).items():
        if not name.startswith("_") and callable(method):
            label = f"{app.__name__.lower()}_{name}"
            effects: Effect = "write" if hasattr(method, "writes") else "read"
            built = tool(getattr(app(None), name), name=label, effects=effects)
            schema = {**built.parameters, "additionalProperties": False}
            tools[label] = replace(built, parameters=schema, output=None, idempotent=effects == "read")
    return tools


def bound(pattern: Tool, app: Any, store: Store) -> Tool:
    """Return a tool whose calls go to ``app`` as transactions of ``store``; a finished episode refuses them."""
    method = getattr(app, pattern.name.partition("_")[2])

    def run(**given: Any) -> Any:
        with store.transaction():
            if store.finished:
                raise RuntimeError("the episode is finished")
            return method(**given)

    return Tool(
        pattern.name,
        pattern.description,
        pattern.parameters,
        run,
        effects=pattern.effects,
        idempotent=pattern.idempotent,
    )


def functions(tools: Sequence[Tool], spend: Callable[[], None]) -> Mapping[str, Callable[..., Any]]:
    """Return the tools as plain functions for code: checked arguments by place or name, JSON results.

    ``spend`` is called before every call and may refuse it. Arguments that do not fit raise ``TypeError``.
    """

    def function(offered: Tool) -> Callable[..., Any]:
        names = list(offered.parameters["properties"])

        def call(*places: Any, **given: Any) -> Any:
            spend()
            if len(places) > len(names):
                raise TypeError(f"{offered.name} takes at most {len(names)} arguments, not {len(places)}")
            try:
                ready, _ = arguments(offered, {**dict(zip(names, places, strict=False)), **given})
            except ValueError as problem:
                raise TypeError(str(problem)) from None
            return offered.run(**ready)

        return call

    return {offered.name: function(offered) for offered in tools}
