"""Tables of records that many episodes share: each sees the records as they were, and its own changes alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from ferrule.core.records import Effect, Tool
from ferrule.tools.tool import Typed, tool

__all__ = ["Records", "methods", "writes"]

Table = Mapping[str, Mapping[str, Any]]


@dataclass
class Records:
    """``tables`` by name, each with its records by id; they are never changed. ``changed`` holds what differs."""

    tables: Mapping[str, Table] = field(repr=False)
    changed: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def get(self, table: str, id: str) -> Mapping[str, Any]:
        """Return a record to read. Raises ``LookupError`` when there is none."""
        record = self.changed.get((table, id), self.tables[table].get(id))
        if record is None:
            raise LookupError(f"{table.removesuffix('s')} {id!r} not found")
        return record

    def has(self, table: str, id: str) -> bool:
        """Say whether there is a record of an id."""
        return (table, id) in self.changed or id in self.tables[table]

    def edit(self, table: str, id: str) -> dict[str, Any]:
        """Return a record to change."""
        if (table, id) not in self.changed:
            self.changed[table, id] = copy.deepcopy(dict(self.get(table, id)))
        return self.changed[table, id]

    def add(self, table: str, id: str, record: dict[str, Any]) -> None:
        """Add a record."""
        self.changed[table, id] = record

    def all(self, table: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the records of a table with their ids."""
        for id in self.tables[table]:
            yield id, self.get(table, id)
        yield from (
            (id, record)
            for (name, id), record in self.changed.items()
            if name == table and id not in self.tables[table]
        )

    def differences(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the records that are not as they were, so that equal databases have equal differences."""
        return {(t, id): record for (t, id), record in self.changed.items() if self.tables[t].get(id) != record}

    def fork(self) -> Records:
        """Return a copy whose changes are its own."""
        return Records(self.tables, copy.deepcopy(self.changed))


def writes(method: Any) -> Any:
    """Mark a method that changes records."""
    method.writes = True
    return method


@cache
def _patterns(kind: type) -> tuple[Tool, ...]:
    """Return a tool per public method of a class, with the schema of its signature and docstring."""
    patterns = []
    for name, method in vars(kind).items():
        if name.startswith("_") or not callable(method):
            continue
        terminal = name == getattr(kind, "ENDS", "")
        effects: Effect = "write" if hasattr(method, "writes") or terminal else "read"
        patterns.append(tool(getattr(kind(None), name), effects=effects, terminal=terminal))
    return tuple(patterns)


def methods(kind: type, records: Records) -> tuple[Tool, ...]:
    """Return the public methods of ``kind(records)`` as tools; the one that ``ENDS`` names ends the episode.

    Methods marked by ``writes`` change records. Annotations and docstrings are read once per class.
    """
    desk = kind(records)

    def bound(pattern: Tool) -> Tool:
        assert isinstance(pattern.run, Typed)
        return replace(pattern, run=replace(pattern.run, function=getattr(desk, pattern.name)))

    return tuple(bound(pattern) for pattern in _patterns(kind))
