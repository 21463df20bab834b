"""The database of one episode: tables of all apps in memory, transactions, copies, and what changed since the start."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Annotated, Any, TypeAlias

from pydantic import Field

__all__ = ["FREE", "TABLES", "Id", "Page", "Row", "Rows", "Store", "Text", "changes"]

Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""Rows by table and id."""

Text = Annotated[str, Field(max_length=2000)]
Id = Annotated[int, Field(ge=1, le=2**53)]
Page = Annotated[int, Field(ge=1, le=10_000)]

TABLES: Mapping[str, tuple[str, ...]] = {
    "contacts": ("name", "email", "phone", "city", "birthday"),
    "members": ("label", "contact_id>contacts"),
    "mails": ("folder", "sender", "recipient", "subject", "body", "sent_on", "read", "starred", "label"),
    "events": ("title", "day", "start", "end", "place"),
    "guests": ("event_id>events", "email"),
    "notes": ("title", "body", "tag", "pinned"),
    "lines": ("note_id>notes", "text", "done"),
    "products": ("name", "category", "price", "rating", "stock"),
    "cart": ("product_id>products", "quantity"),
    "wishes": ("product_id>products",),
    "orders": ("day", "total", "status", "card_id>cards"),
    "bought": ("order_id>orders", "product_id>products", "quantity", "price"),
    "reviews": ("product_id>products", "stars", "text"),
    "wallet": ("balance",),
    "cards": ("name", "spent"),
    "transfers": ("direction", "email", "amount", "note", "day"),
    "requests": ("direction", "email", "amount", "note", "day", "status"),
    "songs": ("title", "artist", "genre", "seconds", "liked"),
    "playlists": ("title",),
    "tracks": ("playlist_id>playlists", "song_id>songs"),
    "following": ("artist",),
    "files": ("path", "content"),
}
"""Columns by table; ``column>table`` refers to rows of that table. Every table has an ``id`` as well."""

FREE = frozenset({("mails", "read")})
"""Columns of existing rows that may change without a task asking for it: looking at a mail marks it as read."""

_NAMES = {table: tuple(column.partition(">")[0] for column in columns) for table, columns in TABLES.items()}
_REFERS = {
    (table, column.partition(">")[0]): column.partition(">")[2]
    for table, columns in TABLES.items()
    for column in columns
    if ">" in column
}
# Ids are never given twice: a row that took the place of a deleted one would otherwise look like a changed row.
_SCHEMA = "".join(
    f"CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, {', '.join(map(repr, columns))});"
    for table, columns in _NAMES.items()
)


@cache
def _empty() -> sqlite3.Connection:
    """A database without rows: copying it is far cheaper than creating the tables again."""
    connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    connection.executescript(_SCHEMA)
    return connection


class Store:
    """One in-memory database with its owner, today's date, and how the episode ended.

    Safe to use from several threads: every call of an API is one transaction. ``fork`` copies the database.
    """

    def __init__(self, me: Mapping[str, str], today: str, rows: Mapping[str, Sequence[Row]] | None = None) -> None:
        """Create the tables and fill them; a row without an ``id`` gets the next one."""
        self.me, self.today = dict(me), today
        self.finished = False
        self.answer: Any = None
        self._lock = threading.RLock()
        self._db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None, cached_statements=256)
        self._db.row_factory = sqlite3.Row
        if rows is not None:
            _empty().backup(self._db)
            with self.transaction():
                for table, entries in rows.items():
                    names = ("id", *_NAMES[table])
                    marks = ", ".join("?" * len(names))
                    values = [[entry.get(name) for name in names] for entry in entries]
                    self._db.executemany(f"INSERT INTO {table} VALUES ({marks})", values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the database; what was changed inside is undone when the block raises."""
        with self._lock:
            self._db.execute("BEGIN")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[Row]:
        """Return the rows of a SELECT."""
        return [dict(row) for row in self._db.execute(query, values)]

    def one(self, table: str, id: int) -> Row:
        """Return the row of an id; raises ``LookupError`` when there is none."""
        rows = self.rows(f"SELECT * FROM {table} WHERE id = ?", id)
        if not rows:
            raise LookupError(f"no entry {id} in {table}")
        return rows[0]

    def insert(self, table: str, **values: Any) -> int:
        """Add a row and return its id; every column must be given."""
        names = _NAMES[table]
        if set(names) != set(values):
            raise TypeError(f"{table} has the columns {names}, not {tuple(values)}")
        marks = ", ".join("?" * len(names))
        columns = ", ".join(f'"{name}"' for name in names)
        cursor = self._db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", [values[name] for name in names])
        return int(cursor.lastrowid or 0)

    def update(self, table: str, id: int, **values: Any) -> None:
        """Change columns of one row."""
        for name, value in values.items():
            self._db.execute(f'UPDATE {table} SET "{name}" = ? WHERE id = ?', (value, id))

    def delete(self, table: str, **where: Any) -> int:
        """Delete the rows whose columns have these values; returns how many there were."""
        conditions = " AND ".join(f'"{name}" = ?' for name in where)
        return self._db.execute(f"DELETE FROM {table} WHERE {conditions}", list(where.values())).rowcount

    def snapshot(self) -> Rows:
        """Return all rows of all tables."""
        with self._lock:
            return {table: {row["id"]: row for row in self.rows(f"SELECT * FROM {table}")} for table in TABLES}

    def fork(self) -> Store:
        """Return an independent store in the same state."""
        twin = Store(self.me, self.today)
        with self._lock:
            self._db.backup(twin._db)
            twin.finished, twin.answer = self.finished, self.answer
        return twin

    def close(self) -> None:
        """Free the memory; may be called twice."""
        with self._lock:
            self._db.close()

    def __del__(self) -> None:
        """Close what nobody closed: newer Pythons complain about open databases."""
        try:  # noqa: SIM105  (when the interpreter ends, nothing imported is left to call)
            self._db.close()
        except Exception:
            pass


def changes(before: Rows, after: Rows, loose: frozenset[tuple[str, str]] = frozenset()) -> Counter[tuple[Any, ...]]:
    """Return what differs, counted: added rows by their content, deleted rows by id, changed cells by id and value.

    Ids of added rows depend on the order of the calls, so an added row is identified by its content alone, and a
    reference to an added row by that row's content. ``loose`` columns of added rows are left out.
    """
    known: dict[tuple[str, int], tuple[Any, ...]] = {}

    def plain(table: str, column: str, value: Any) -> Any:
        target = _REFERS.get((table, column))
        if target is None or value in before[target] or value not in after[target]:
            return value
        return content(target, value)

    def content(table: str, id: int) -> tuple[Any, ...]:
        if (table, id) not in known:
            row = after[table][id]
            cells = ((name, plain(table, name, row[name])) for name in _NAMES[table] if (table, name) not in loose)
            known[table, id] = ("added", table, *cells)
        return known[table, id]

    differences: Counter[tuple[Any, ...]] = Counter()
    for table, names in _NAMES.items():
        old, new = before[table], after[table]
        differences.update(("deleted", table, id) for id in old.keys() - new.keys())
        differences.update(content(table, id) for id in new.keys() - old.keys())
        for id in old.keys() & new.keys():
            if old[id] != new[id]:
                differences.update(
                    ("changed", table, id, name, plain(table, name, new[id][name]))
                    for name in names
                    if old[id][name] != new[id][name]
                )
    return differences
