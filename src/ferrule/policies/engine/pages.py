"""Bookkeeping of a paged cache: which page holds which tokens, who uses it, and which may go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Pages"]


@dataclass
class _Page:
    users: int = 0
    children: int = 0
    key: tuple[int, tuple[int, ...]] | None = None


@dataclass
class Pages:
    """Pages of ``size`` tokens that sequences with equal beginnings share.

    A full page is known by its tokens and the page before it. Pages that nobody uses stay known, so that a later turn
    of the same episode finds them; the one unused longest goes first when room is needed. At most ``limit`` pages.
    """

    size: int
    limit: int
    _pages: list[_Page] = field(default_factory=list)
    _free: list[int] = field(default_factory=list)
    _known: dict[tuple[int, tuple[int, ...]], int] = field(default_factory=dict)
    _idle: OrderedDict[int, None] = field(default_factory=OrderedDict)

    @property
    def count(self) -> int:
        """Pages handed out so far; storage must hold that many."""
        return len(self._pages)

    @property
    def used(self) -> int:
        """Pages that some sequence holds."""
        return sum(page.users > 0 for page in self._pages)

    def match(self, ids: Sequence[int]) -> list[int]:
        """Return the known pages at the beginning of ``ids``, held for the caller; one token at least stays out."""
        matched: list[int] = []
        before = -1
        for start in range(0, (len(ids) - 1) // self.size * self.size, self.size):
            page = self._known.get((before, tuple(ids[start : start + self.size])))
            if page is None:
                break
            matched.append(page)
            before = page
        self.hold(matched)
        return matched

    def hold(self, pages: Sequence[int]) -> None:
        """Count one more user of each page."""
        for page in pages:
            self._pages[page].users += 1
            self._idle.pop(page, None)

    def take(self) -> int | None:
        """Return an empty page, held once, or ``None`` when all pages are in use."""
        if not self._free and len(self._pages) < self.limit:
            self._free.append(len(self._pages))
            self._pages.append(_Page())
        if not self._free and self._idle:
            self._forget(next(iter(self._idle)))
        if not self._free:
            return None
        page = self._free.pop()
        self._pages[page].users = 1
        return page

    def _forget(self, page: int) -> None:
        entry = self._pages[page]
        del self._idle[page]
        if entry.key is not None:
            del self._known[entry.key]
            before, entry.key = entry.key[0], None
            if before >= 0:
                self._pages[before].children -= 1
                self._rest(before)
        self._free.append(page)

    def seal(self, page: int, before: int, ids: Sequence[int]) -> int:
        """Make a full page known and return it, or the page known for these tokens already (held in its place)."""
        key = (before, tuple(ids))
        known = self._known.get(key)
        if known is not None and known != page:
            self.hold([known])
            self.drop([page])
            return known
        if known is None:
            self._pages[page].key = key
            self._known[key] = page
            if before >= 0:
                self._pages[before].children += 1
        return page

    def drop(self, pages: Sequence[int]) -> None:
        """Count one user less of each page; unknown pages without users are empty again."""
        for page in reversed(pages):
            entry = self._pages[page]
            entry.users -= 1
            if entry.users == 0 and entry.key is None:
                self._free.append(page)
            else:
                self._rest(page)

    def _rest(self, page: int) -> None:
        entry = self._pages[page]
        if entry.users == 0 and entry.children == 0 and entry.key is not None:
            self._idle[page] = None

    def forget(self) -> None:
        """Forget what pages hold (their weights are gone); pages in use become their users' own."""
        for number, page in enumerate(self._pages):
            known, page.key, page.children = page.key is not None, None, 0
            if known and page.users == 0:
                self._free.append(number)
        self._known.clear()
        self._idle.clear()
