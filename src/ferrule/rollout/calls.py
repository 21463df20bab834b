"""Tool calls on their way: started at once, taken when they are back, and waited for only while that is short."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeAlias

from ferrule.core.records import Observation

__all__ = ["At", "Calls"]

At: TypeAlias = tuple[int, int]
"""Where a request comes from: the number of its episode, and its slot there."""


@dataclass(frozen=True)
class _Out:
    """The calls of one ``Use``."""

    tools: frozenset[str]
    futures: tuple[Future[Observation], ...]
    until: float

    @property
    def back(self) -> bool:
        return all(future.done() for future in self.futures)


class Calls:
    """Runs calls in threads and returns the observations of those that were asked for together (a ``Use``) together.

    A group of calls is known by the number of its episode and its slot there.

    Calls that were just made are waited for up to ``patience`` seconds, so that with quick tools the episodes go on in
    the same order every time; a tool that once took longer is not waited for again.
    """

    def __init__(self, pool: ThreadPoolExecutor, patience: float) -> None:
        self._pool, self._patience = pool, patience
        self._out: dict[At, _Out] = {}
        self._slow: set[str] = set()

    def __contains__(self, at: At) -> bool:
        return at in self._out

    def __len__(self) -> int:
        return len(self._out)

    def start(self, at: At, tools: Sequence[str], acts: Sequence[Callable[[], Observation]]) -> None:
        """Begin calls that belong together, one function for each tool named."""
        futures = tuple(self._pool.submit(call) for call in acts)
        patient = not self._slow.intersection(tools)
        until = time.monotonic() + (self._patience if patient else 0.0)
        self._out[at] = _Out(frozenset(tools), futures, until)

    def ready(self) -> list[tuple[At, list[Observation]]]:
        """Return what is back, in order; calls that may still be quick are waited for."""
        for out in self._out.values():
            left = out.until - time.monotonic()
            if not out.back and left > 0:
                wait(out.futures, timeout=left)
                if not out.back:
                    self._slow |= out.tools
        return self._take()

    def next(self) -> list[tuple[At, list[Observation]]]:
        """Wait until some calls that belong together are all back, and return what is back."""
        while self._out and not any(out.back for out in self._out.values()):
            pending = [future for out in self._out.values() for future in out.futures if not future.done()]
            wait(pending, return_when=FIRST_COMPLETED)
        return self._take()

    def _take(self) -> list[tuple[At, list[Observation]]]:
        back = sorted(at for at, out in self._out.items() if out.back)
        return [(at, [future.result() for future in self._out.pop(at).futures]) for at in back]
