"""Entries as text: one JSON line each, which reads back to equal entries, or a page to read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from ferrule.core.exact import line_of, read, write
from ferrule.memory.entries import Entry

__all__ = ["as_lines", "as_page", "from_lines"]


def as_lines(entries: Iterable[Entry]) -> str:
    """Return one JSON line per entry."""
    return "".join(f"{line_of(write(entry)).decode()}\n" for entry in entries)


def from_lines(text: str) -> list[Entry]:
    """Return the entries that ``as_lines`` wrote; raises ``ValueError`` naming the line that is none."""
    entries = []
    for number, line in enumerate(filter(str.strip, text.split("\n")), 1):
        try:
            entries.append(read(Entry, json.loads(line)))
        except ValueError as error:
            raise ValueError(f"line {number} is no entry: {error}") from None
    return entries


def as_page(entries: Sequence[Entry]) -> str:
    """Return a Markdown page: a heading per entry, its condition, its text, where it comes from and how it fared."""
    parts = ["# What was learned\n"]
    for entry in entries:
        tally = entry.tally
        told = [f"\n## {entry.id} ({entry.kind}, {entry.state})\n"]
        told += [f"\n*{entry.when}*\n"] if entry.when else []
        told += [f"\n{entry.text}\n"]
        told += [f"\n{', '.join('/'.join(label) for label in entry.labels)}\n"] if entry.labels else []
        where = f"; learned from {', '.join(entry.tasks)}" if any(entry.tasks) else ""
        told += [f"\nShown in {tally.shown} episodes, mean credit {tally.worth:+.2f}{where}.\n"]
        parts += told
    return "".join(parts)
