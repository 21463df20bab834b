"""Tool calls on their way: started at once, taken when they are back, and waited for only while that is short."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from ferrule.core.records import Observation

__all__ = ["Calls"]


@dataclass(frozen=True)
class _Out:
    """The calls of one episode."""

    tools: frozenset[str]
    futures: tuple[Future[Observation], ...]
    until: float

    @property
    def back(self) -> bool:
        return all(future.done() for future in self.futures)


class Calls:
    """Runs the calls of many episodes in threads and returns the observations of each episode together.

    Calls that were just made are waited for up to ``patience`` seconds, so that with quick tools the episodes go on in
    the same order every time; a tool that once took longer is not waited for again.
    """

    def __init__(self, pool: ThreadPoolExecutor, patience: float) -> None:
        self._pool, self._patience = pool, patience
        self._out: dict[int, _Out] = {}
        self._slow: set[str] = set()

    def __contains__(self, episode: int) -> bool:
        return episode in self._out

    def __len__(self) -> int:
        return len(self._out)

    def start(self, episode: int, tools: Sequence[str], acts: Sequence[Callable[[], Observation]]) -> None:
        """Begin the calls of one episode, one function for each tool named."""
        futures = tuple(self._pool.submit(call) for call in acts)
        patient = not self._slow.intersection(tools)
        until = time.monotonic() + (self._patience if patient else 0.0)
        self._out[episode] = _Out(frozenset(tools), futures, until)

    def ready(self) -> list[tuple[int, list[Observation]]]:
        """Return what is back, by episode; calls that may still be quick are waited for."""
        for out in self._out.values():
            left = out.until - time.monotonic()
            if not out.back and left > 0:
                wait(out.futures, timeout=left)
                if not out.back:
                    self._slow |= out.tools
        return self._take()

    def next(self) -> list[tuple[int, list[Observation]]]:
        """Wait until some episode has all its observations, and return what is back."""
        while self._out and not any(out.back for out in self._out.values()):
            pending = [future for out in self._out.values() for future in out.futures if not future.done()]
            wait(pending, return_when=FIRST_COMPLETED)
        return self._take()

    def _take(self) -> list[tuple[int, list[Observation]]]:
        back = sorted(episode for episode, out in self._out.items() if out.back)
        return [(episode, [future.result() for future in self._out.pop(episode).futures]) for episode in back]
