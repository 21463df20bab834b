"""What a server writes to its log: a line for a client that left, and no more lines than somebody can read."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Sparse", "calm", "sparing"]

_LOG = logging.getLogger("uvicorn.error")


class Sparse(logging.Filter):
    """Lets ``burst`` records through and then ``rate`` a second; the next one says how many were left out."""

    def __init__(self, burst: int = 20, rate: float = 0.5) -> None:
        """Begin with room for a whole burst."""
        super().__init__()
        self._burst, self._rate = burst, rate
        self._room, self._at = float(burst), time.monotonic()
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is written."""
        now = time.monotonic()
        self._room = min(self._burst, self._room + (now - self._at) * self._rate)
        self._at = now
        if self._room < 1:
            self._left_out += 1
            return False
        self._room -= 1
        if self._left_out:
            record.msg, record.args = f"{record.getMessage()} ({self._left_out} lines left out before this one)", None
            self._left_out = 0
        return True


@contextlib.contextmanager
def sparing(*names: str) -> Iterator[None]:
    """Write the records of these loggers sparingly, all of them together."""
    sparse, loggers = Sparse(), [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(sparse)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(sparse)


def calm(app: ASGIApp) -> ASGIApp:
    """Return the application with one line in the log for a client that leaves before its request is read."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.requests import ClientDisconnect
        from starlette.websockets import WebSocketDisconnect

        try:
            await app(scope, receive, send)
        except (ClientDisconnect, WebSocketDisconnect):
            host, port = scope.get("client") or ("?", "?")
            _LOG.warning("%s:%s left in the middle of a request to %s", host, port, scope.get("path"))

    return answer
