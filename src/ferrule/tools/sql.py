"""The ``sql`` tool: read-only questions to an SQLite file."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from ferrule.core.clip import clip
from ferrule.core.records import Observation, Tool
from ferrule.tools.tool import tool

__all__ = ["sql_tool"]

_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_PRAGMAS = {"table_info", "table_list", "table_xinfo", "index_list", "index_info", "foreign_key_list"}
_FORBIDDEN_FUNCTIONS = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}
_LARGEST = 1_000_000  # bytes of one value, also of those inside a computation
_CELL = 200
_STEPS = 10_000  # virtual machine steps between two looks at the clock


def _may(action: int, first: str | None, second: str | None) -> bool:
    """True for reading; everything else (writing, attaching, changing pragmas, loading code) is denied."""
    if action == sqlite3.SQLITE_FUNCTION:
        return (second or "").lower() not in _FORBIDDEN_FUNCTIONS
    if action == sqlite3.SQLITE_PRAGMA:
        return (first or "").lower() in _PRAGMAS
    return action in _ALLOWED


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST)
    connection.text_factory = lambda body: body.decode("utf-8", "replace")
    return connection


def sql_tool(path: str | Path, *, rows: int = 50, seconds: float = 5.0, name: str = "sql") -> Tool:
    """Build a tool that answers one SELECT on the SQLite file ``path`` with a small text table.

    At most ``rows`` rows are returned, a query is interrupted after ``seconds`` (status timeout), and writing,
    attaching other files
    and changing pragmas are refused (status refused). The description lists the tables. ``Observation.data`` holds
    columns and rows.
    Raises ``FileNotFoundError`` and, for a file that is not a database, ``ValueError``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no database {str(path)!r}; give an SQLite file")
    if rows < 1 or not seconds > 0:
        raise ValueError(f"rows is {rows} and seconds is {seconds}; rows must be at least 1 and seconds above 0")
    about = f"Ask the SQLite database with one SELECT statement (at most {rows} rows come back).\n{_tables(path)}"

    @tool(name=name, description=about, seconds=seconds + 1.0)
    def sql(query: str) -> Observation:
        """Ask the database.

        Args:
            query: one SELECT statement
        """
        return _ask(path, query, rows, seconds)

    return sql


def _tables(path: Path) -> str:
    """One line per table: ``name(column TYPE, ...)``."""
    try:
        with closing(_open(path)) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name")
            lines = []
            for (table,) in names.fetchall():
                columns = connection.execute("SELECT name, type FROM pragma_table_info(?)", (table,)).fetchall()
                lines.append(f"{table}({', '.join(f'{column} {kind}'.strip() for column, kind in columns)})")
    except sqlite3.DatabaseError as problem:
        raise ValueError(f"{path} cannot be read as an SQLite database: {problem}") from None
    return "Tables: " + ("; ".join(lines) or "none")


def _ask(path: Path, query: str, rows: int, seconds: float) -> Observation:
    end = time.monotonic() + seconds
    denied: list[int] = []

    def authorise(action: int, first: str | None, second: str | None, *_: Any) -> int:
        if _may(action, first, second):
            return sqlite3.SQLITE_OK
        denied.append(action)
        return sqlite3.SQLITE_DENY

    with closing(_open(path)) as connection:
        connection.set_authorizer(authorise)
        connection.set_progress_handler(lambda: int(time.monotonic() > end), _STEPS)
        try:
            cursor = connection.execute(query)
            fetched = cursor.fetchmany(rows + 1)
        except (sqlite3.Error, sqlite3.Warning) as problem:
            if time.monotonic() > end:
                return Observation(f"the query was stopped after {seconds:g} s", "timeout")
            reason = str(problem)
            if denied:
                return Observation(f"refused: only reading is allowed here ({reason})", "refused")
            return Observation(f"{type(problem).__name__}: {reason}", "error")
        columns = [entry[0] for entry in cursor.description or ()]
    lines = [" | ".join(columns), *(" | ".join(_cell(value) for value in row) for row in fetched[:rows])]
    if len(fetched) > rows:
        lines.append(f"[... more than {rows} rows; add LIMIT or a narrower condition ...]")
    plain = [[value.hex() if isinstance(value, bytes) else value for value in row] for row in fetched[:rows]]
    return Observation("\n".join(lines), data={"columns": columns, "rows": plain})


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    text = f"x'{value.hex()}'" if isinstance(value, bytes) else str(value)
    return clip(text.replace("\n", " "), _CELL).replace("\n", " ")
