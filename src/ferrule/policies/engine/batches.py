"""Rows that are decoded batch by batch, for models whose cache is their own affair."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ferrule.policies.engine.rows import Row

__all__ = ["Batches"]


class Batches:
    """A decoder that hands the rows that came first, at most ``rows``, to ``move``; nothing is shared across batches.

    ``move`` draws ids for all rows of a batch, to their ends or less far; ``kind`` is its name among the engines.
    """

    def __init__(self, kind: str, move: Callable[[Sequence[Row]], None], *, rows: int = 128) -> None:
        self.kind, self.rows = kind, rows
        self._move = move
        self._waiting: list[Row] = []

    @property
    def busy(self) -> int:
        """Rows that are not finished."""
        return len(self._waiting)

    def submit(self, rows: Sequence[Row]) -> None:
        """Queue rows."""
        self._waiting += rows

    def step(self) -> list[Row]:
        """Move the rows that came first and return those that finished."""
        batch = self._waiting[: self.rows]
        self._move(batch)
        self._waiting = [row for row in self._waiting if not row.finish]
        return [row for row in batch if row.finish]

    def cancel(self, rows: Sequence[Row]) -> None:
        """Let go of rows."""
        self._waiting = [row for row in self._waiting if row not in rows]

    def forget(self) -> None:
        """Nothing is kept between batches."""
