"""What the columns of a data set mean, and which format of rows they make up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ferrule.core.arrays import nearest

__all__ = ["FORMATS", "MEANINGS", "Columns", "Format", "recognise"]

MEANINGS: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "problem", "query", "instruction", "input"),
    "answer": ("answer", "final_answer", "solution", "ground_truth", "expected_answer", "target"),
    "completion": ("completion", "response", "output"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "label": ("label",),
    "completions": ("completions", "steps"),
    "labels": ("labels",),
    "messages": ("messages", "conversations", "conversation"),
    "text": ("text",),
    "tools": ("tools", "functions", "function"),
    "images": ("images", "image"),
    "layout": ("chat_template_kwargs",),
    "system": ("system", "system_prompt"),
    "input": ("input", "context"),
    "history": ("history",),
    "verifier": ("verifier",),
    "calls": ("calls",),
    "entities": ("entities",),
    "level": ("level",),
    "meta": ("meta",),
    "source": ("source",),
}
"""Names of columns by their meaning; of several names in one data set the first that stands here counts."""


@dataclass(frozen=True)
class Format:
    """A format of rows: the meanings it needs and may have, and what reads it."""

    needs: tuple[str, ...]
    may: tuple[str, ...]
    readers: str


_SPOKEN = ("tools", "images", "system")
_PREFER = "ferrule prefer"
FORMATS: Mapping[str, Format] = {
    "preference": Format(("chosen", "rejected"), ("prompt", *_SPOKEN, "layout"), _PREFER),
    "steps": Format(("prompt", "completions", "labels"), (), "data.records, for reward models of steps"),
    "labelled": Format(("prompt", "completion", "label"), (*_SPOKEN, "input", "history"), f"{_PREFER} --method kto"),
    "messages": Format(("messages",), _SPOKEN, "ferrule sft"),
    "completion": Format(("prompt", "completion"), (*_SPOKEN, "input", "history"), "ferrule sft"),
    "tasks": Format(
        ("prompt", "answer"),
        (*_SPOKEN, "input", "verifier", "calls", "entities", "level", "meta", "source"),
        "ferrule train, ferrule eval",
    ),
    "text": Format(("text",), (), "ferrule sft"),
    "prompt": Format(("prompt",), (*_SPOKEN, "input", "history"), "data.records"),
}
"""Formats by name, in the order in which they are tried."""
_DECISIVE = ("tools", "images", "system", "label", "labels", "history")
"""Meanings that change what is learned: a format that does not read them refuses their columns."""


@dataclass(frozen=True)
class Columns:
    """How a data set is read: its format, the column of each meaning, and the columns that are not read.

    ``unused`` have a known meaning that the format does not read; ``others`` have none. Tasks keep the others.
    """

    format: str
    fields: Mapping[str, str]
    unused: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """A sentence that names the columns which are not read, "" when there are none."""
        listed = ", ".join(map(repr, (*self.unused, *(self.others if self.format != "tasks" else ()))))
        return f"not used: {listed}; read as {self.format!r} from {', '.join(self.fields.values())}" if listed else ""


def recognise(
    columns: Sequence[str], formats: Sequence[str] = tuple(FORMATS), fields: Mapping[str, str] | None = None
) -> Columns:
    """Return the first of ``formats`` whose columns are there; names of columns are compared in any case.

    ``fields`` names the columns of meanings itself (``{"prompt": "task_text"}``). Raises ``ValueError`` when a named
    column is missing, when no format fits (with the format that would and what reads it), and when a column that
    changes what is learned is not read (``tools`` in rows of plain text, ``label`` where all rows would be imitated).
    """
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"unknown format {name!r}; {nearest(name, list(FORMATS))}")
    meant = _meant(columns, fields or {})
    chosen = next((name for name in formats if set(FORMATS[name].needs) <= set(meant)), "")
    if not chosen:
        raise ValueError(_no_format(columns, formats, meant))
    entry = FORMATS[chosen]
    read = {meaning: meant[meaning] for meaning in (*entry.needs, *entry.may) if meaning in meant}
    rest = [column for column in columns if column not in read.values()]
    known = {name: meaning for meaning, names in MEANINGS.items() for name in names}
    unused = tuple(column for column in rest if column.lower() in known)
    for column in unused:
        if (meaning := known[column.lower()]) in _DECISIVE and meaning not in read:
            raise ValueError(
                f"the column {column!r} means something ({meaning}) that rows of format {chosen!r} do not use; take "
                "the column out, or rename it"
            )
    return Columns(chosen, read, unused, tuple(column for column in rest if column.lower() not in known))


def _meant(columns: Sequence[str], fields: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each meaning, the named ones first; no column has two."""
    for meaning, column in fields.items():
        if meaning not in MEANINGS:
            raise ValueError(f"unknown meaning {meaning!r}; {nearest(meaning, list(MEANINGS))}")
        if column not in columns:
            raise ValueError(f"no column {column!r} for the {meaning}; {nearest(column, list(columns))}")
    meant = dict(fields)
    by_name = {column.lower(): column for column in reversed(columns)}
    for meaning, names in MEANINGS.items():
        free = (by_name[name] for name in names if name in by_name and by_name[name] not in meant.values())
        if meaning not in meant and (first := next(free, None)) is not None:
            meant[meaning] = first
    return meant


def _no_format(columns: Sequence[str], formats: Sequence[str], meant: Mapping[str, str]) -> str:
    needs = "; ".join(f"{name}: {' + '.join(FORMATS[name].needs)}" for name in formats)
    other = next((name for name, entry in FORMATS.items() if set(entry.needs) <= set(meant)), "")
    lacking = sorted({need for name in formats for need in FORMATS[name].needs if need not in meant})
    near = "; ".join(
        f"for the {need}, {guess.partition('?')[0]}?"
        for need in lacking
        if "did you mean" in (guess := nearest(need, list(columns)))
    )
    return (
        f"the columns {', '.join(map(repr, columns))} make up no format that is read here ({needs})"
        + (f"; {near}" if near else "")
        + (f"; rows of format {other!r} are read by {FORMATS[other].readers}" if other else "")
        + "; name columns, for example with prompt_field (--prompt-field)"
    )
