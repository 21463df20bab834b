"""Where a library lies: an SQLite file that several processes may write, and that no kill leaves half written.

The file is in WAL mode with full synchronisation: what a transaction wrote is on the disk before it returns, and a
transaction that was cut off has written nothing. Every transaction has a revision, so that a reader takes over what
others have written since it looked last.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ferrule.core.exact import line_of, read, write
from ferrule.memory.entries import Entry

__all__ = ["Store", "Writing"]

_FORMAT = 1
_TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS entries (
    id TEXT PRIMARY KEY, number INTEGER NOT NULL, revision INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS entries_by_revision ON entries (revision);
CREATE TABLE IF NOT EXISTS versions (id TEXT, version INTEGER, body TEXT NOT NULL, PRIMARY KEY (id, version));
CREATE TABLE IF NOT EXISTS log (
    revision INTEGER PRIMARY KEY, kind TEXT NOT NULL, ids TEXT NOT NULL, note TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS results (task TEXT PRIMARY KEY, count INTEGER NOT NULL, total REAL NOT NULL);
INSERT OR IGNORE INTO facts VALUES ('format', {_FORMAT}), ('revision', 0), ('loaded', 0), ('numbers', 0);
COMMIT;
"""
_CLOSED = ("unable to open", "readonly", "locked", "disk")
_NEEDS = "a library needs a file and a folder that can be written, and no other program that holds the file for long"
_CONTENTS = ("facts", "entries", "versions", "log", "results")


class Writing:
    """One transaction: what it reads is the newest there is, and what it writes is there as a whole or not at all."""

    def __init__(self, link: sqlite3.Connection, revision: int) -> None:
        self.link, self.revision = link, revision

    def number(self) -> int:
        """Return the next number of an entry; none is given twice."""
        return _counted(self.link, "numbers")

    def get(self, id: str) -> Entry | None:
        """Return an entry as it is now."""
        row = self.link.execute("SELECT body FROM entries WHERE id = ?", (id,)).fetchone()
        return None if row is None else _entry(row[0])

    def ids(self) -> list[str]:
        """Return the ids of all entries, by number."""
        return [id for (id,) in self.link.execute("SELECT id FROM entries ORDER BY number").fetchall()]

    def live(self) -> list[Entry]:
        """Return all live entries as they are now, by number."""
        rows = self.link.execute("SELECT body FROM entries ORDER BY number").fetchall()
        return [entry for entry in (_entry(row[0]) for row in rows) if entry.state == "live"]

    def put(self, entry: Entry, *, version: bool = True) -> None:
        """Write an entry; with ``version`` as one that can be looked up later by its number."""
        body = line_of(write(entry)).decode()
        self.link.execute(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", (entry.id, entry.number, self.revision, body)
        )
        if version:
            self.link.execute("INSERT OR REPLACE INTO versions VALUES (?, ?, ?)", (entry.id, entry.version, body))

    def log(self, kind: str, ids: tuple[str, ...], note: str = "") -> None:
        """Say what the transaction did, in one line of the log."""
        self.link.execute("INSERT INTO log VALUES (?, ?, ?, ?)", (self.revision, kind, json.dumps(ids), note))

    def results(self, task: str | None = None) -> tuple[int, float]:
        """Return how many episodes were kept and the sum of their scores: of a task, or of all."""
        which, given = ("WHERE task = ?", (task,)) if task is not None else ("", ())
        row = self.link.execute(f"SELECT sum(count), sum(total) FROM results {which}", given).fetchone()
        return int(row[0] or 0), float(row[1] or 0.0)

    def scored(self, task: str, score: float) -> None:
        """Count an episode of a task with its score."""
        self.link.execute(
            "INSERT INTO results VALUES (?, 1, ?) ON CONFLICT (task) DO UPDATE SET count = count + 1, "
            "total = total + excluded.total",
            (task, score),
        )


def _write_ahead(link: sqlite3.Connection) -> None:
    """Put the file into WAL mode; of processes that open a new file together, one does so and the others wait."""
    for attempt in range(200):
        try:
            if link.execute("PRAGMA journal_mode = WAL").fetchall() == [("wal",)]:
                return
        except sqlite3.OperationalError as problem:  # SQLite does not wait for others here
            if "locked" not in str(problem) or attempt == 199:
                raise
        time.sleep(0.01)
    raise ValueError("the file system of this library has no shared memory, which several writers need")


def _foreign(link: sqlite3.Connection) -> bool:
    """Tell whether the file holds tables and none of a library: then nothing may be written to it."""
    tables = [name for (name,) in link.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()]
    return bool(tables) and "facts" not in tables


def _akin(link: sqlite3.Connection, state: dict[str, list[list[Any]]]) -> bool:
    """Tell whether a file and a state began in the same way; what is empty is like everything."""
    for name in ("log", "versions"):
        mine = link.execute(f"SELECT * FROM {name} ORDER BY rowid LIMIT 1").fetchone()
        if mine is not None and state[name] and list(mine) != list(state[name][0]):
            return False
    return True


def _counted(link: sqlite3.Connection, name: str) -> int:
    """Count a fact up by one and return it."""
    rows = link.execute("UPDATE facts SET value = value + 1 WHERE name = ? RETURNING value", (name,)).fetchall()
    return int(rows[0][0])


def _entry(body: str) -> Entry:
    return read(Entry, json.loads(body))


class Store:
    """The tables of a library at ``path`` (``":memory:"``: in this process alone, and gone with it).

    Safe for threads and after a fork. Raises ``ValueError`` for a file that is no library, which stays as it is, and
    ``OSError`` where one is locked, damaged, or cannot be written.
    """

    def __init__(self, path: str | Path = ":memory:") -> None:
        self.path = str(path)
        self._lock = threading.RLock()
        self._link, self._owner = self._opened(), os.getpid()

    def _opened(self) -> sqlite3.Connection:
        try:
            link = sqlite3.connect(self.path, timeout=60.0, isolation_level=None, check_same_thread=False)
        except sqlite3.OperationalError as problem:
            raise ValueError(f"{self.path} cannot be opened as a library of entries: {problem}") from None
        try:
            if _foreign(link):
                raise sqlite3.DatabaseError("it holds tables of something else")
            if self.path != ":memory:":
                _write_ahead(link)
            link.execute("PRAGMA synchronous = FULL")
            if not link.execute("SELECT * FROM sqlite_master WHERE name = 'facts'").fetchall():
                link.executescript(_TABLES)
            facts = dict(link.execute("SELECT name, value FROM facts").fetchall())
        except sqlite3.DatabaseError as problem:
            link.close()
            if any(words in str(problem) for words in _CLOSED):
                raise OSError(f"the library {self.path}: {problem}; {_NEEDS}") from None
            raise ValueError(f"{self.path} is no library of entries: {problem}") from None
        if facts.get("format") != _FORMAT or not {"revision", "loaded", "numbers"} <= set(facts):
            link.close()
            raise ValueError(f"{self.path} is a library of another format; this version reads format {_FORMAT}")
        return link

    def _connected(self) -> sqlite3.Connection:
        if self._owner != os.getpid():  # a fork: connections belong to the process that opened them
            if self.path == ":memory:":
                raise ValueError("a library in memory belongs to the process that made it; give it a file")
            self._lock = threading.RLock()
            self._link, self._owner = self._opened(), os.getpid()
        return self._link

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Say which file it was that is locked, full or damaged."""
        try:
            yield
        except sqlite3.DatabaseError as problem:
            if type(problem) not in (sqlite3.OperationalError, sqlite3.DatabaseError):
                raise
            raise OSError(f"the library {self.path}: {problem}; {_NEEDS}") from problem

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read several times as of one moment."""
        link = self._connected()
        with self._lock, self._telling():
            link.execute("BEGIN")
            try:
                yield link
            finally:
                link.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """Open a transaction with a revision of its own; an exception undoes all of it."""
        link = self._connected()
        with self._lock, self._telling():
            link.execute("BEGIN IMMEDIATE")
            try:
                yield Writing(link, _counted(link, "revision"))
                link.execute("COMMIT")
            except BaseException:
                if link.in_transaction:  # SQLite has undone it already where the disk was full
                    link.execute("ROLLBACK")
                raise

    def since(self, revision: int) -> tuple[int, bool, list[Entry]]:
        """Return the newest revision, whether all was loaded anew after ``revision``, and the entries written since.

        Entries are in the order of their numbers.
        """
        with self.reading() as link:
            facts = dict(link.execute("SELECT name, value FROM facts WHERE name IN ('revision', 'loaded')").fetchall())
            if facts["revision"] == revision:
                return revision, False, []
            anew = facts["loaded"] > revision
            query = "SELECT body FROM entries WHERE revision > ? ORDER BY number"
            rows = link.execute(query, (-1 if anew else revision,)).fetchall()
        return int(facts["revision"]), anew, [_entry(row[0]) for row in rows]

    def versions(self, id: str) -> list[Entry]:
        """Return all versions of an entry, the first one first, as they were written."""
        with self.reading() as link:
            rows = link.execute("SELECT body FROM versions WHERE id = ? ORDER BY version", (id,)).fetchall()
        return [_entry(row[0]) for row in rows]

    def log(self) -> list[dict[str, Any]]:
        """Return what was done: ``revision``, ``kind``, ``ids`` and ``note`` of every transaction, in order."""
        with self.reading() as link:
            rows = link.execute("SELECT revision, kind, ids, note FROM log ORDER BY revision").fetchall()
        return [{"revision": r, "kind": kind, "ids": json.loads(ids), "note": note} for r, kind, ids, note in rows]

    def state(self) -> dict[str, list[list[Any]]]:
        """Return all that the library holds as JSON data, read at one moment."""
        with self.reading() as link:
            return {
                name: [list(row) for row in link.execute(f"SELECT * FROM {name} ORDER BY rowid").fetchall()]
                for name in _CONTENTS
            }

    def load(self, state: dict[str, list[list[Any]]]) -> None:
        """Put back what ``state`` returned, in one transaction; what was written since is gone.

        The revision goes on counting, so that other processes notice. Raises ``ValueError`` for the state of a library
        that began with something else than what this file holds.
        """
        if set(state) != set(_CONTENTS):
            raise ValueError(f"a state of a library has {', '.join(_CONTENTS)}; this one {', '.join(sorted(state))}")
        with self.writing() as writing:
            link = writing.link
            if self.path != ":memory:" and not _akin(link, state):
                raise ValueError(
                    f"{self.path} is another library than the one of this state, and would be lost; go on with that "
                    "one, or with a file that does not exist yet"
                )
            for name, rows in state.items():
                link.execute(f"DELETE FROM {name}")
                if rows:
                    link.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", rows)
            now = (writing.revision,)
            link.execute("UPDATE facts SET value = ? WHERE name IN ('revision', 'loaded')", now)
            link.execute("UPDATE entries SET revision = ?", now)

    def close(self) -> None:
        """Close the connection."""
        if self._owner == os.getpid():
            self._link.close()
