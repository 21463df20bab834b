"""Data sets as tables: JSONL, JSON, CSV and parquet files, folders of them, and what ``datasets`` stores or fetches."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.worlds.lines import csv_rows, decoded, json_rows

__all__ = [
    "SUFFIXES",
    "Placed",
    "Row",
    "Table",
    "hub_name",
    "joined",
    "read",
    "read_file",
    "readable",
    "split_named",
    "split_of",
]

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""Endings of the files that are read, each also with ``.gz`` behind it."""
_HELD_OUT = ("test", "validation", "valid", "val", "dev", "eval")
"""Names of the split that is not trained on, the first that a data set has being taken."""
_SPLIT = re.compile(rf"(train|{'|'.join(_HELD_OUT)})(?![a-z])")
_HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+(:[\w.-]+)?")

Row = Mapping[str, Any]
Placed = tuple[str, Row]
"""A row with its place, for messages: ``("tasks.jsonl, line 3", {...})``."""


@dataclass(frozen=True)
class Table:
    """The rows of one split with their places, and the names of all columns in the order they first appear."""

    columns: tuple[str, ...]
    rows: Sequence[Placed] = field(repr=False)


class _Stored(Sequence[Placed]):
    """Rows of a split of ``datasets``, each read when it is asked for."""

    def __init__(self, data: Any, label: str) -> None:
        self._data, self._label = data, label

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return f"{self._label}, row {place % len(self)}", self._data[place]


def read(source: str | Path) -> dict[str, Table]:
    """Return the tables of a data set by split: ``train`` and ``test`` where it has them, else ``all``.

    ``source`` is a file (``SUFFIXES``, also ``.gz``), a folder of such files whose names begin with their split, a
    folder that ``save_to_disk`` wrote, or a name on the Hugging Face hub (``owner/name`` or ``owner/name:config``).
    Where there is no split ``test``, ``validation`` (``valid``, ``val``, ``dev``, ``eval``) stands for it. Parquet,
    stored and hub data sets need the extra ``data`` (``ImportError`` says so). Raises ``FileNotFoundError`` for a
    missing source and ``ValueError`` with file and line for what cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        stored = any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))
        return _stored(str(path), None) if stored else _folder(path)
    if path.exists():
        return {"all": read_file(path)}
    if hub_name(source):
        name, _, config = str(source).partition(":")
        return _stored(name, config or None)
    raise FileNotFoundError(f"no file and no folder {str(source)!r}; a data set is a file ending in {_endings()}")


def hub_name(source: str | Path) -> bool:
    """Say whether a text reads as a name on the hub, and not as the path of a file or into a folder that is here."""
    text = str(source)
    here = text.removesuffix(".gz").endswith(SUFFIXES) or Path(text.partition("/")[0]).is_dir()
    return bool(_HUB.fullmatch(text)) and not here


def split_of(names: Sequence[str], split: str) -> str | None:
    """Return which of the names of splits stands for ``train`` or ``test``; None when none does."""
    wanted = _HELD_OUT if split == "test" else (split,)
    return next((name for name in wanted if name in names), None)


def split_named(name: str) -> str | None:
    """Return ``train`` or ``test``, as the name of a file begins; None where it tells no split."""
    begins = _SPLIT.match(name)
    return None if begins is None else "train" if begins[1] == "train" else "test"


def read_file(path: Path) -> Table:
    """Return the table of one file; see ``read``."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}; give a file ending in {_endings()}")
    bare = path.with_suffix("") if path.suffix == ".gz" else path
    kind = bare.suffix.lower()
    if kind not in SUFFIXES:
        raise ValueError(f"{path}: {kind or 'no ending'} is not an ending that is read; {nearest(kind, SUFFIXES)}")
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as error:
            raise ValueError(f"{path}: it cannot be unpacked ({error}); pack it again with gzip") from None
    if kind == ".parquet":
        return _parquet(path, data)
    text = decoded(data, str(path))
    return table(list(csv_rows(text, str(path)) if kind in (".csv", ".tsv") else json_rows(text, str(path))))


def table(rows: Sequence[Placed]) -> Table:
    """Return rows as a table, with the columns that any of them has."""
    return Table(tuple(dict.fromkeys(name for _, row in rows for name in row)), rows)


def _endings() -> str:
    return f"{', '.join(SUFFIXES)} (also .gz)"


def _parquet(path: Path, data: bytes) -> Table:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError('parquet files need an extra: pip install "ferrule[data]"') from error
    try:
        stored = pq.read_table(pa.BufferReader(data))
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: it is not a parquet file ({error})") from None
    rows = [(f"{path}, row {i}", row) for i, row in enumerate(stored.to_pylist())]
    return Table(tuple(stored.column_names), rows)


def _folder(path: Path) -> dict[str, Table]:
    """Read a folder of files by the split that each name begins with; shards of a split are joined in order."""
    files = sorted(file for place in (path, path / "data") for file in place.glob("*") if readable(file))
    parts: dict[str, list[Path]] = {}
    for file in files:
        if named := _SPLIT.match(file.name):
            parts.setdefault(named[1], []).append(file)
    if not parts:
        names = ", ".join(file.name for file in files[:5])
        raise FileNotFoundError(
            f"{path} holds neither train.jsonl nor test.jsonl, nor another file whose name begins with its split"
            + (f"; give one of its files: {names}" if files else f"; files end in {_endings()}")
        )
    tables = {split: joined([read_file(file) for file in members]) for split, members in parts.items()}
    return _as_splits(tables)


def readable(file: Path) -> bool:
    """Say whether a path is a file with an ending that is read."""
    return file.is_file() and file.name.removesuffix(".gz").lower().endswith(SUFFIXES)


def joined(tables: Sequence[Table]) -> Table:
    """Return the rows of several tables as one."""
    if len(tables) == 1:
        return tables[0]
    columns = dict.fromkeys(name for part in tables for name in part.columns)
    return Table(tuple(columns), [row for part in tables for row in part.rows])


def _as_splits(parts: Mapping[str, Table]) -> dict[str, Table]:
    """Return ``train`` and ``test`` of a data set's splits, or ``all`` where it has one split alone or neither."""
    names = list(parts)
    chosen = {split: name for split in ("train", "test") if (name := split_of(names, split)) is not None}
    if not chosen:
        return {"all": joined(list(parts.values()))}
    return {split: parts[name] for split, name in chosen.items()}


def _stored(source: str, config: str | None) -> dict[str, Table]:
    """Read what ``save_to_disk`` wrote, or a data set of the hub."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError('data sets need an extra: pip install "ferrule[data]"') from error
    try:
        there = Path(source).is_dir()
        loaded = datasets.load_from_disk(source) if there else datasets.load_dataset(source, config)
    except (ConnectionError, FileNotFoundError, ValueError) as error:
        raise ValueError(f"{source!r} is no file or folder here, and no data set of the hub: {error}") from error
    parts: Mapping[str, Any] = dict(loaded) if isinstance(loaded, Mapping) else {"all": loaded}
    tables = {
        name: Table(tuple(part.column_names), _Stored(part, f"{source} ({name})")) for name, part in parts.items()
    }
    return {"all": next(iter(tables.values()))} if len(tables) == 1 else _as_splits(tables)
