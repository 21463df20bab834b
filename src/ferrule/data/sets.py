"""Data sets to learn from: records of a file, a folder or a data set of the hub, some of them held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ferrule.core.records import Tool
from ferrule.data.records import Conversation, Labelled, Preference, Record, Text, records
from ferrule.worlds.columns import recognise
from ferrule.worlds.files import read
from ferrule.worlds.rows import divided

__all__ = ["DataSet", "prompt_of", "read_records", "unpaired"]


@dataclass(frozen=True)
class DataSet:
    """Records to learn from, records held out to measure on, and ``notes`` on columns that are not used."""

    train: tuple[Record, ...] = field(repr=False)
    held_out: tuple[Record, ...] = field(repr=False)
    notes: tuple[str, ...] = ()


def prompt_of(record: Record) -> str:
    """Return what a record asks, as text: the same for two records with the same prompt, messages included."""
    match record:
        case Text(text):
            return text
        case Conversation(messages):
            replies = (i for i, message in enumerate(messages) if message.role == "assistant")
            return repr(messages[: next(replies, len(messages))])
    return record.prompt if isinstance(record.prompt, str) else repr(record.prompt)


def unpaired(record: Record) -> tuple[Record, ...]:
    """Return a preference as two labelled records, the chosen one good and the rejected one bad; others as they are."""
    if not isinstance(record, Preference):
        return (record,)
    return tuple(
        Labelled(record.prompt, completion, label, record.tools, record.spelled_out)
        for completion, label in ((record.chosen, True), (record.rejected, False))
    )


def read_records(
    source: str | Path,
    formats: Sequence[str],
    *,
    tools: Sequence[Tool] = (),
    fields: Mapping[str, str] | None = None,
    held_out: int = 100,
) -> DataSet:
    """Return the records of a data set that ``ferrule.worlds.files.read`` reads, in the first of ``formats`` that fits.

    ``tools`` and ``fields`` are those of ``records`` and ``recognise``. At most ``held_out`` rows are held out: of the
    split ``test`` where there is one, else of the fifth of the rows that the CRC-32 of their prompts chooses; rows with
    the prompt of a held-out one do not train, all others do. Raises what ``read``, ``recognise`` and ``records`` raise,
    and ``ValueError`` where nothing is left to train on.
    """
    parts: dict[str, tuple[Record, ...]] = {}
    notes: dict[str, None] = {}
    for split, table in read(source).items():
        if not table.rows:
            raise ValueError(f"{source} holds no rows" + (f" of the split {split!r}" if split != "all" else ""))
        try:
            columns = recognise(table.columns, formats, fields)
        except ValueError as error:
            raise ValueError(f"{table.rows[0][0] if table.rows else source}: {error}") from None
        notes.update(dict.fromkeys([columns.note] if columns.note else []))
        parts[split] = tuple(records(table, columns, tools))
    if "all" in parts:
        train, test = _apart(parts["all"], held_out)
    else:
        train, test = parts.get("train", ()), parts.get("test", ())[:held_out]
    if not train:
        sizes = ", ".join(f"{split}: {len(part)}" for split, part in parts.items())
        raise ValueError(f"{source} has no rows to train on (rows by split: {sizes})")
    return DataSet(train, test, tuple(notes))


def _apart(items: tuple[Record, ...], held_out: int) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Return what trains and what is held out of rows without splits."""
    test = divided(items, prompt_of)["test"][:held_out] if len(items) > 1 else ()
    asked = {prompt_of(record) for record in test}
    return tuple(record for record in items if prompt_of(record) not in asked), test
