"""A stream over a policy that answers asks one by one elsewhere, such as a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

from ferrule.core.flows import Ask
from ferrule.core.records import Reply

__all__ = ["Awaited"]


class Awaited:
    """Asks in flight; ``start`` begins one and returns the future of its replies.

    ``advance`` waits for replies for ``seconds`` at most, so that the caller can see to its tools in between.
    ``on_replies`` is given the replies of every ask that is complete, each with its ask.
    """

    def __init__(
        self,
        start: Callable[[Ask], Future[list[Reply]]],
        on_replies: Callable[[Sequence[Reply], Sequence[Ask]], None] | None = None,
        *,
        seconds: float = 0.02,
    ) -> None:
        self._start, self._on_replies, self._seconds = start, on_replies, seconds
        self._out: dict[int, tuple[Ask, Future[list[Reply]]]] = {}

    def begin(self, asks: Sequence[tuple[int, Ask]]) -> None:
        """Start asks, each under a number of the caller's."""
        self._out |= {number: (ask, self._start(ask)) for number, ask in asks}

    def advance(self) -> list[tuple[int, list[Reply]]]:
        """Return the asks that are complete, by number; what went wrong with one is raised."""
        wait([future for _, future in self._out.values()], timeout=self._seconds, return_when=FIRST_COMPLETED)
        complete = []
        for number in sorted(number for number, (_, future) in self._out.items() if future.done()):
            ask, future = self._out.pop(number)
            complete.append((number, future.result()))
            if self._on_replies:
                self._on_replies(complete[-1][1], [ask] * ask.n)
        return complete

    def close(self) -> None:
        """Give up what is on its way."""
        for _, future in self._out.values():
            future.cancel()
        self._out = {}
