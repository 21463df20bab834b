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
    """Logits of tokens of many sequences over a paged cache."""

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
    def busy(self) -> int:
        """Rows that are not finished."""
        return len(self._live) + sum(1 + len(one.twins) for one in self._waiting)

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
        for one in [one for one in self._live if id(one.row) in gone]:
            self._leave(one)
        for one in list(self._waiting):
            members = [row for row in (one.row, *one.twins) if id(row) not in gone]
            if members:
                one.row, one.twins = members[0], members[1:]
            else:
                self._waiting.remove(one)

    def forget(self) -> None:
        """Forget everything cached, because the weights changed; rows on their way are computed again."""
        for one in self._live:
            self._reset(one)
        self.pages.forget()
        self.forward.bind()

    def step(self) -> list[Row]:
        """Compute one batch of tokens, draw the next ids, and return the rows that finished."""
        plan = self._plan()
        if not plan:
            return []
        self.forward.grow(self.pages.count)
        size, ids, positions, pages, rows, last = self.pages.size, [], [], [], [], []
        table = np.zeros((len(plan), max(len(one.pages) for one, _ in plan)), np.int64)
        ready = []
        for i, (one, count) in enumerate(plan):
            table[i, : len(one.pages)] = one.pages
            everything = one.ids()
            ids += everything[one.done : one.done + count]
            for at in range(one.done, one.done + count):
                positions.append(at)
                pages.append(one.pages[at // size])
            rows += [i] * count
            one.done += count
            if one.done == len(everything):
                ready.append(one)
                last.append(len(ids) - 1)
        self.computed += len(ids)
        logits, hidden = self.forward(ids, positions, pages, rows, table, last)
        return self._sample(ready, logits, hidden) if ready else []

    def _plan(self) -> list[tuple[_Sequence, int]]:
        """Choose what is computed next: a token of every row that samples, then prompts up to the token budget."""
        plan: list[tuple[_Sequence, int]] = []
        room = self.tokens
        for one in list(self._live):
            if one not in self._live or not room:  # set back meanwhile, or next time
                continue
            count = min(room, len(one.row.given) + len(one.row.sampled) - one.done)
            if self._hold(one, count):
                plan.append((one, count))
                room -= count
        while self._waiting and room and len(self._live) < self.rows:
            one = self._waiting[0]
            ids = one.ids()
            one.pages = self.pages.match(ids)
            one.done, one.sealed = len(one.pages) * self.pages.size, len(one.pages)
            count = min(room, len(ids) - one.done)
            if not self._fits(one, count):
                self._reset(one)
                if not self._live:
                    raise self._full(len(ids))
                break
            self._waiting.popleft()
            self._live.append(one)
            plan.append((one, count))
            room -= count
        return [(one, count) for one, count in plan if one in self._live]

    def _full(self, tokens: int) -> MemoryError:
        held = self.pages.limit * self.pages.size
        return MemoryError(
            f"the cache of {self.cache_mb} MiB holds {held} tokens and cannot hold a row of {tokens}; raise cache_mb"
        )

    def _hold(self, one: _Sequence, count: int) -> bool:
        """Give a live row the pages for its next tokens; rows that came later are set back for it, then itself."""
        while not self._fits(one, count):
            last = self._live[-1]
            if last is one and len(self._live) == 1:
                raise self._full(one.done + count)
            self._reset(last)
            self._live.remove(last)
            self._waiting.appendleft(last)
            self.set_back += 1
            if last is one:
                return False
        return True

    def _fits(self, one: _Sequence, count: int) -> bool:
        """Take pages for the next ``count`` tokens and make the full ones known; false when there are too few."""
        size = self.pages.size
        while len(one.pages) * size < one.done + count:
            page = self.pages.take()
            if page is None:
                return False
            one.pages.append(page)
        ids = one.ids()
        while (one.sealed + 1) * size <= one.done + count:
            k = one.sealed
            before = one.pages[k - 1] if k else -1
            # Keys are written before any is read, so a page may be shared from the step that fills it.
            one.pages[k] = self.pages.seal(one.pages[k], before, ids[k * size : (k + 1) * size])
            one.sealed += 1
        return True

    def _sample(self, ready: list[_Sequence], logits: Tensor, hidden: Tensor) -> list[Row]:
        """Draw for the rows at their end, and for rows that waited for the same prompt."""
        pick = list(range(len(ready)))
        for i, one in enumerate(list(ready)):
            free = self.rows - len(self._live)
            joining, one.twins = one.twins[:free], one.twins[free:]
            for row in joining:
                twin = self._branch(one, row)
                if twin is None:
                    one.twins.insert(0, row)
                    continue
                ready.append(twin)
                pick.append(i)
            if one.twins:
                self._waiting.appendleft(_Sequence(one.twins[0], one.twins[1:]))
                one.twins = []
        rows = [one.row for one in ready]
        shared = len(pick) > len(logits) or pick != list(range(len(pick)))
        advance(rows, logits[pick] if shared else logits, self.stops, hidden[pick] if shared else hidden)
        self.sampled += len(rows)
        for one in ready:
            if one.row.finish:
                self._leave(one)
        return [row for row in rows if row.finish]

    def _branch(self, one: _Sequence, row: Row) -> _Sequence | None:
        """Let another row go on from the same tokens: full pages are shared, the last one is copied."""
        twin = _Sequence(row, pages=one.pages[: one.sealed], done=one.done, sealed=one.sealed)
        if len(one.pages) > one.sealed:
            page = self.pages.take()
            if page is None:
                return None
            self.forward.grow(self.pages.count)
            self.forward.copy(one.pages[-1], page)
            twin.pages.append(page)
        self.pages.hold(one.pages[: one.sealed])
        self._live.append(twin)
        return twin

    def _reset(self, one: _Sequence) -> None:
        self.pages.drop(one.pages)
        one.pages, one.done, one.sealed = [], 0, 0

    def _leave(self, one: _Sequence) -> None:
        self._reset(one)
        self._live.remove(one)
