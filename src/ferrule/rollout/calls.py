"""Running tool calls: started at once, collected when they are done, and waited for only briefly."""

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
    futures: tuple[Future[list[Observation]], ...]
    until: float

    @property
    def back(self) -> bool:
        return all(future.done() for future in self.futures)


class Calls:
    """Runs calls in threads and returns the observations of those that were asked for together (a ``Use``) together.

    A group of calls is known by the number of its episode and its slot there.

    Calls that were just started are waited for up to ``patience`` seconds, so that with quick tools the episodes go on
    in the same order every time; a tool that once took longer is not waited for again.
    """

    def __init__(self, pool: ThreadPoolExecutor, patience: float) -> None:
        self._pool, self._patience = pool, patience
        self._out: dict[At, _Out] = {}
        self._slow: set[str] = set()

    def __contains__(self, at: At) -> bool:
        return at in self._out

    def __len__(self) -> int:
        return len(self._out)

    def start(self, at: At, tools: Sequence[str], acts: Sequence[Callable[[], list[Observation]]]) -> None:
        """Begin calls of the tools named, which belong together; each function runs one or several, in their order."""
        futures = tuple(self._pool.submit(call) for call in acts)
        patient = not self._slow.intersection(tools)
        until = time.monotonic() + (self._patience if patient else 0.0)
        self._out[at] = _Out(frozenset(tools), futures, until)

    def ready(self) -> list[tuple[At, list[Observation]]]:
        """Return the observations that are ready, in order; calls that may still be quick are waited for."""
        for flight in self._out.values():
            left = flight.until - time.monotonic()
            if not flight.back and left > 0:
                wait(flight.futures, timeout=left)
                if not flight.back:
                    self._slow |= flight.tools
        return self._take()

    def next(self) -> list[tuple[At, list[Observation]]]:
        """Wait until all calls of some group are done, and return the observations that are ready."""
        while self._out and not any(flight.back for flight in self._out.values()):
            pending = [future for flight in self._out.values() for future in flight.futures if not future.done()]
            wait(pending, return_when=FIRST_COMPLETED)
        return self._take()

    def _take(self) -> list[tuple[At, list[Observation]]]:
        done = sorted(at for at, flight in self._out.items() if flight.back)
        groups = [(at, [future.result() for future in self._out.pop(at).futures]) for at in done]
        return [(at, [observation for lane in lanes for observation in lane]) for at, lanes in groups]
