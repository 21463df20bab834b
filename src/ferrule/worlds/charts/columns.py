"""Tables that charts are drawn of: columns of one kind each, read from a file or given as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ferrule.core.arrays import nearest
from ferrule.worlds.files import read_file

__all__ = ["ColumnKind", "Plotted", "Variable", "plotted", "read_plotted"]

ColumnKind: TypeAlias = Literal["categorical", "numerical", "temporal"]
Cell: TypeAlias = "str | float | datetime | None"
_MISSING = frozenset({"na", "n/a", "#n/a", "nan", "nat", "null", "none", "-"})
"""Texts that stand for an empty cell in a column that otherwise holds numbers or dates; in others they are words."""
_LARGEST = 1e100
"""The largest number: of sums of squares of larger ones floats have no room."""


@dataclass(frozen=True)
class Variable:
    """One column: texts, numbers, or points in time, None where a cell is empty."""

    name: str
    kind: ColumnKind
    cells: tuple[Cell, ...] = field(repr=False)


@dataclass(frozen=True)
class Plotted:
    """A table with a name, whose columns are of equal length and have different names."""

    name: str
    variables: tuple[Variable, ...]

    def __post_init__(self) -> None:
        """Refuse a table without columns, and columns of different lengths or of one name."""
        names = [variable.name for variable in self.variables]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"the table {self.name!r} needs columns, each with another name; it has {names}")
        if len({len(variable.cells) for variable in self.variables}) > 1:
            raise ValueError(f"the columns of {self.name!r} differ in length")

    @cached_property
    def by_name(self) -> dict[str, Variable]:
        """The columns by their names."""
        return {variable.name: variable for variable in self.variables}

    def variable(self, name: str) -> Variable:
        """Return a column (``ValueError`` naming the nearest)."""
        if name not in self.by_name:
            raise ValueError(f"{self.name!r} has no column {name!r}; {nearest(name, list(self.by_name))}")
        return self.by_name[name]

    def thinned(self, most: int) -> Plotted:
        """Return the table with at most ``most`` of its rows, evenly spaced (``ValueError`` below 1)."""
        if most < 1:
            raise ValueError(f"a table of {most} rows shows nothing; the least is 1")
        step = max(1, -(-len(self.variables[0].cells) // most))
        return Plotted(self.name, tuple(replace(each, cells=each.cells[::step]) for each in self.variables))

    def named(self, *kinds: ColumnKind) -> list[str]:
        """Return the names of the columns of some kinds, in their order."""
        return [variable.name for variable in self.variables if variable.kind in kinds]


def plotted(name: str, columns: Mapping[str, Sequence[Any]]) -> Plotted:
    """Return values by column as a table.

    A column is numerical where all its values are numbers (or texts of numbers), temporal where all are dates or texts
    of dates in ISO 8601, and categorical otherwise. Blank texts, None, and numbers that are not finite or beyond 1e100
    are empty cells, and so are words for "no value" (``NA``, ``null``, ``-``) among numbers or dates.
    """
    return Plotted(name, tuple(_variable(str(key), values) for key, values in columns.items()))


def read_plotted(path: str | Path) -> Plotted:
    """Read a table from a file: CSV, JSONL, JSON, or parquet (with the extra ``charts`` or ``data``).

    Space within names of columns becomes single blanks, so that each can be told, and picked, on one line.
    Raises what ``ferrule.worlds.files.read_file`` raises, and ``ValueError`` for a file without rows.
    """
    table = read_file(Path(path))
    if not table.rows:
        raise ValueError(f"{path} has no rows; a chart needs two at least")
    rows = [row for _, row in table.rows]
    columns = {" ".join(key.split()): [row.get(key) for row in rows] for key in table.columns}
    if len(columns) < len(table.columns):
        raise ValueError(f"{path} has columns whose names differ in space alone: {table.columns}")
    return plotted(Path(path).name.partition(".")[0], columns)


def _variable(name: str, values: Sequence[Any]) -> Variable:
    given = [None if _blank(value) else value for value in values]
    for kind, convert in (("numerical", _number), ("temporal", _moment)):
        try:
            cells = tuple(None if value is None or _missing(value) else convert(value) for value in given)
        except (TypeError, ValueError, OverflowError):
            continue
        if any(cell is not None for cell in cells):
            return Variable(name, kind, cells)  # type: ignore[arg-type]
    return Variable(name, "categorical", tuple(None if value is None else str(value) for value in given))


def _blank(value: Any) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _missing(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() in _MISSING


def _number(value: Any) -> float | None:
    """Return a number, None for one that charts have no room for; raises for what is none."""
    if isinstance(value, bool):
        raise TypeError("a truth value is no number")
    number = float(value)
    return number if abs(number) <= _LARGEST else None


def _moment(value: Any) -> datetime:
    """Return a point in time; raises for what is none."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    if not isinstance(value, str):
        raise TypeError("a point in time is a date or a text")
    return datetime.fromisoformat(value.strip()).replace(tzinfo=None)
