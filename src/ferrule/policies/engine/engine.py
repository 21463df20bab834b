"""Continuous batching over a paged cache: rows enter and leave at every step, equal beginnings are computed once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from ferrule.policies.engine.pages import Pages
from ferrule.policies.engine.rows import Row, Stops, advance

__all__ = ["Decoder", "Engine", "Forward"]


class Forward(Protocol):
    """Logits of tokens of many sequences over a paged cache; ``kind`` is its name among the engines."""

    kind: str
    page_size: int

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all layers."""
        ...

    def grow(self, pages: int) -> None:
        """Have room for that many pages."""
        ...

    def copy(self, source: int, target: int) -> None:
        """Copy one page over another."""
        ...

    def bind(self) -> None:
        """Look the weights up again."""
        ...

    def __call__(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        pages: Sequence[int],
        rows: Sequence[int],
        table: np.ndarray[Any, Any],
        last: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """Return logits (M, V) and last hidden states (M, hidden) of the tokens at places ``last``."""
        ...


class Decoder(Protocol):
    """Brings rows to their ends, step by step."""

    @property
    def kind(self) -> str:
        """Its name in ``engines.KINDS``."""
        ...

    @property
    def busy(self) -> int:
        """Rows that are not finished."""
        ...

    def submit(self, rows: Sequence[Row]) -> None:
        """Queue rows."""
        ...

    def step(self) -> list[Row]:
        """Do one piece of work and return the rows that finished."""
        ...

    def cancel(self, rows: Sequence[Row]) -> None:
        """Let go of rows, whatever their state."""
        ...

    def forget(self) -> None:
        """Forget everything cached, because the weights changed."""
        ...


@dataclass(eq=False)
class _Sequence:
    """The cached tokens of one row, and the rows that wait for the same prompt."""

    row: Row
    twins: list[Row] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    done: int = 0
    sealed: int = 0

    def ids(self) -> list[int]:
        return [*self.row.given, *self.row.sampled]


class Engine:
    """Advances many rows together, at most ``rows`` of them and ``tokens`` new tokens at a step.

    Rows with the same prompt share its pages and its first logits; a row whose beginning is cached (a later turn, a
    branch, another row's prompt) computes the rest only. The cache takes at most ``cache_mb`` MiB; when it is full, the
    row that came last is set back and computed again later.
    """

    def __init__(
        self, forward: Forward, stops: Stops, *, rows: int = 128, tokens: int = 256, cache_mb: int = 1024
    ) -> None:
        self.forward, self.stops, self.rows, self.tokens = forward, stops, rows, max(tokens, rows)
        limit = max(1, cache_mb * 2**20 // forward.page_bytes)
        self.cache_mb, self.pages = cache_mb, Pages(forward.page_size, limit)
        self.computed = self.sampled = self.set_back = 0
        self._waiting: deque[_Sequence] = deque()
        self._live: list[_Sequence] = []

    @property
    def kind(self) -> str:
        """Its name in ``engines.KINDS``: that of the forward passes."""
        return self.forward.kind

    @property
    def busy(self) -> int:
        """Rows that are not finished."""
        return len(self._live) + sum(1 + len(sequence.twins) for sequence in self._waiting)

    def submit(self, rows: Sequence[Row]) -> None:
        """Queue rows; those with equal prompts are computed together."""
        groups: dict[tuple[int, ...], _Sequence] = {}
        for row in rows:
            if row.given in groups:
                groups[row.given].twins.append(row)
            else:
                groups[row.given] = _Sequence(row)
        self._waiting += groups.values()

    def run(self, rows: Sequence[Row]) -> None:
        """Sample every row to its end, in place."""
        self.submit(rows)
        try:
            while self.busy:
                self.step()
        finally:
            self.cancel(rows)

    def cancel(self, rows: Sequence[Row]) -> None:
        """Let go of rows, whatever their state."""
        gone = set(map(id, rows))
        for sequence in [sequence for sequence in self._live if id(sequence.row) in gone]:
            self._leave(sequence)
        for sequence in list(self._waiting):
            members = [row for row in (sequence.row, *sequence.twins) if id(row) not in gone]
            if members:
                sequence.row, sequence.twins = members[0], members[1:]
            else:
                self._waiting.remove(sequence)

    def forget(self) -> None:
        """Forget everything cached, because the weights changed; rows on their way are computed again."""
        for sequence in self._live:
            self._reset(sequence)
        self.pages.forget()
        self.forward.bind()

    def step(self) -> list[Row]:
        """Compute one batch of tokens, draw the next ids, and return the rows that finished."""
        plan = self._plan()
        if not plan:
            return []
        self.forward.grow(self.pages.count)
        size, ids, positions, pages, rows, last = self.pages.size, [], [], [], [], []
        table = np.zeros((len(plan), max(len(sequence.pages) for sequence, _ in plan)), np.int64)
        ready = []
        for i, (sequence, count) in enumerate(plan):
            table[i, : len(sequence.pages)] = sequence.pages
            everything = sequence.ids()
            ids += everything[sequence.done : sequence.done + count]
            for at in range(sequence.done, sequence.done + count):
                positions.append(at)
                pages.append(sequence.pages[at // size])
            rows += [i] * count
            sequence.done += count
            if sequence.done == len(everything):
                ready.append(sequence)
                last.append(len(ids) - 1)
        self.computed += len(ids)
        logits, hidden = self.forward(ids, positions, pages, rows, table, last)
        return self._sample(ready, logits, hidden) if ready else []

    def _plan(self) -> list[tuple[_Sequence, int]]:
        """Choose what is computed next: a token of every row that samples, then prompts up to the token budget."""
        plan: list[tuple[_Sequence, int]] = []
        room = self.tokens
        for sequence in list(self._live):
            if sequence not in self._live or not room:  # set back meanwhile, or next time
                continue
            count = min(room, len(sequence.row.given) + len(sequence.row.sampled) - sequence.done)
            if self._hold(sequence, count):
                plan.append((sequence, count))
                room -= count
        while self._waiting and room and len(self._live) < self.rows:
            sequence = self._waiting[0]
            ids = sequence.ids()
            sequence.pages = self.pages.match(ids)
            sequence.done, sequence.sealed = len(sequence.pages) * self.pages.size, len(sequence.pages)
            count = min(room, len(ids) - sequence.done)
            if not self._fits(sequence, count):
                self._reset(sequence)
                if not self._live:
                    raise self._full(len(ids))
                break
            self._waiting.popleft()
            self._live.append(sequence)
            plan.append((sequence, count))
            room -= count
        return [(sequence, count) for sequence, count in plan if sequence in self._live]

    def _full(self, tokens: int) -> MemoryError:
        room = self.pages.limit * self.pages.size
        return MemoryError(
            f"the cache of {self.cache_mb} MiB holds {room} tokens and cannot hold a row of {tokens}; raise cache_mb"
        )

    def _hold(self, sequence: _Sequence, count: int) -> bool:
        """Give a live row the pages for its next tokens; rows that came later are set back for it, then itself."""
        while not self._fits(sequence, count):
            last = self._live[-1]
            if last is sequence and len(self._live) == 1:
                raise self._full(sequence.done + count)
            self._reset(last)
            self._live.remove(last)
            self._waiting.appendleft(last)
            self.set_back += 1
            if last is sequence:
                return False
        return True

    def _fits(self, sequence: _Sequence, count: int) -> bool:
        """Take pages for the next ``count`` tokens and make the full ones known; false when there are too few."""
        size = self.pages.size
        while len(sequence.pages) * size < sequence.done + count:
            page = self.pages.take()
            if page is None:
                return False
            sequence.pages.append(page)
        ids = sequence.ids()
        while (sequence.sealed + 1) * size <= sequence.done + count:
            k = sequence.sealed
            before = sequence.pages[k - 1] if k else -1
            # Keys are written before any is read, so a page may be shared from the step that fills it.
            sequence.pages[k] = self.pages.seal(sequence.pages[k], before, ids[k * size : (k + 1) * size])
            sequence.sealed += 1
        return True

    def _sample(self, ready: list[_Sequence], logits: Tensor, hidden: Tensor) -> list[Row]:
        """Draw for the rows at their end, and for rows that waited for the same prompt."""
        pick = list(range(len(ready)))
        for i, sequence in enumerate(list(ready)):
            free = self.rows - len(self._live)
            joining, sequence.twins = sequence.twins[:free], sequence.twins[free:]
            for row in joining:
                twin = self._branch(sequence, row)
                if twin is None:
                    sequence.twins.insert(0, row)
                    continue
                ready.append(twin)
                pick.append(i)
            if sequence.twins:
                self._waiting.appendleft(_Sequence(sequence.twins[0], sequence.twins[1:]))
                sequence.twins = []
        rows = [sequence.row for sequence in ready]
        shared = len(pick) > len(logits) or pick != list(range(len(pick)))
        advance(rows, logits[pick] if shared else logits, self.stops, hidden[pick] if shared else hidden)
        self.sampled += len(rows)
        for sequence in ready:
            if sequence.row.finish:
                self._leave(sequence)
        return [row for row in rows if row.finish]

    def _branch(self, sequence: _Sequence, row: Row) -> _Sequence | None:
        """Let another row go on from the same tokens: full pages are shared, the last one is copied."""
        twin = _Sequence(row, pages=sequence.pages[: sequence.sealed], done=sequence.done, sealed=sequence.sealed)
        if len(sequence.pages) > sequence.sealed:
            page = self.pages.take()
            if page is None:
                return None
            self.forward.grow(self.pages.count)
            self.forward.copy(sequence.pages[-1], page)
            twin.pages.append(page)
        self.pages.hold(sequence.pages[: sequence.sealed])
        self._live.append(twin)
        return twin

    def _reset(self, sequence: _Sequence) -> None:
        self.pages.drop(sequence.pages)
        sequence.pages, sequence.done, sequence.sealed = [], 0, 0

    def _leave(self, sequence: _Sequence) -> None:
        self._reset(sequence)
        self._live.remove(sequence)
