"""The connections of an HTTP server: how many there may be, how slow a client may be, and who goes for lack of room.

A client that is not done with its request costs a descriptor and nothing else, so it is the first to go: a server is
full only when all of its connections are at work.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["ClientLimits", "Clients"]

_LOG = logging.getLogger("uvicorn.error")
_PAUSE = 0.5  # seconds between two looks at the clients
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_LEAST = 8  # connections that are served however few descriptors there are
_NEW = 0.25  # seconds in which a client is not judged: what it sent may not have been read yet
_SILENT = 1.0  # a body of which nothing came for so long counts as half a head does
_SLOW = 16  # a body at less than so many times the least rate goes when there is no room


@dataclass(frozen=True)
class ClientLimits:
    """Bounds on clients of a server.

    ``connections`` may be open at once, fewer where the process may not open that many descriptors (a quarter of them
    is left to everything else). The head of a request may take ``head_seconds``. Its body has ``body_seconds`` to begin
    and then comes at ``body_rate`` bytes a second or faster. A client that reads nothing of its answer for
    ``answer_seconds`` is cut off.
    """

    connections: int = 1024
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    body_rate: float = 1024.0
    answer_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse bounds under which no client could be served, naming the field."""
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not value > 0:
                raise ValueError(f"{entry.name} is {value}; it must be above 0")

    def most(self) -> int:
        """Return how many connections the descriptors of this process allow."""
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if allowed == resource.RLIM_INFINITY:
            return self.connections
        return min(self.connections, max(_LEAST, allowed - allowed // 4))


class Clients:
    """Accepts connections for the protocol that ``make`` returns (one of uvicorn's for HTTP), within ``limits``."""

    def __init__(self, make: Callable[[], Any], limits: ClientLimits) -> None:
        """Accept nothing yet."""
        self._make = make
        self._limits = limits
        self._most = limits.most()
        self._open: set[_Client] = set()
        self._freed = asyncio.Event()

    async def accept(self, listening: socket.socket) -> None:
        """Accept until cancelled; pauses while every connection is at work and while descriptors are short."""
        loop = asyncio.get_running_loop()
        listening.setblocking(False)
        watching = asyncio.ensure_future(self._watch())
        try:
            while True:
                while len(self._open) >= self._most and not self._make_room("there are as many as allowed"):
                    self._freed.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._freed.wait(), _NEW / 4)
                try:
                    connection, _ = await loop.sock_accept(listening)
                    await loop.connect_accepted_socket(self._client, connection)
                except OSError as problem:
                    if listening.fileno() < 0:
                        return
                    if problem.errno in _NO_DESCRIPTORS:
                        self._make_room(str(problem.strerror))
                    await asyncio.sleep(_PAUSE if problem.errno in _NO_DESCRIPTORS else 0)
        finally:
            watching.cancel()

    def _client(self) -> _Client:
        return _Client(self._make(), self._open, self._freed, self._limits)

    def _make_room(self, why: str) -> bool:
        """Close the connection that is the least loss, when there is one whose client is waited for.

        Of half-sent requests some go together: looking for them takes longer than accepting another one. While some are
        too new to be judged nothing else goes, as waiting for them is the smaller loss.
        """
        self._forget()
        now = time.monotonic()
        ranked = [(rank, client.heard, client) for client in self._open if (rank := client.rank(now)) is not None]
        ranked.sort(key=lambda entry: entry[:2])
        if not ranked:
            return False
        least = [client for rank, _, client in ranked if rank == ranked[0][0]]
        unread = _unread(least)
        going = [client for client in least if client not in unread and not client.new(now)]
        for client in going[: max(1, self._most // 32) if ranked[0][0] == 0 else 1]:
            client.end(f"closed to make room: {why}")
        return bool(going)

    async def _watch(self) -> None:
        """Close those who are too slow, again and again."""
        while True:
            await asyncio.sleep(_PAUSE)
            self._forget()
            now = time.monotonic()
            slow = {client: problem for client in self._open if (problem := client.too_slow(now))}
            for client in slow.keys() - _unread(list(slow)):
                client.end(slow[client])

    def _forget(self) -> None:
        """Drop the connections that are gone: one that became a WebSocket does not say so."""
        gone = [client for client in self._open if client.gone()]
        self._open.difference_update(gone)


def _unread(clients: Sequence[_Client]) -> set[_Client]:
    """Return those that have sent something which has not been read yet: this process, not they, is behind."""
    poll, by_fd = select.poll(), {client.fileno(): client for client in clients if not client.paused()}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    return {by_fd[fd] for fd, _ in poll.poll(0)}


class _Client(asyncio.Protocol):
    """A connection: hands everything to the protocol inside, and keeps what tells how slow the client is."""

    def __init__(self, inner: Any, open: set[_Client], freed: asyncio.Event, limits: ClientLimits) -> None:
        self.heard = self._since = time.monotonic()  # when the last byte came; when the head or the body began
        self._inner, self._open, self._freed, self._limits = inner, open, freed, limits
        self._transport: Any = None
        self._cycle: Any = None  # the request that is being answered, or was answered last
        self._head = self._body = self._unsent = 0
        self._stalled = self.heard

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._open.add(self)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._follow()
        self.heard = time.monotonic()
        if self._answering():
            self._body += len(data)
        else:
            if not self._head and self._cycle is not None:
                self._since = self.heard
            self._head += len(data)
        self._inner.data_received(data)
        self._follow()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._freed.set()
        self._inner.connection_lost(exc)

    def eof_received(self) -> bool | None:
        kept: bool | None = self._inner.eof_received()
        return kept

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def fileno(self) -> int:
        """Return the descriptor of the connection, -1 when it is closed."""
        number: int = self._transport.get_extra_info("socket").fileno()
        return number

    def gone(self) -> bool:
        return self.fileno() < 0

    def paused(self) -> bool:
        """Say whether the server reads nothing at present, because it has enough of it."""
        stopped: bool = not self._upgraded() and self._inner.flow.read_paused
        return stopped

    def end(self, why: str) -> None:
        """Cut the client off; nothing is waiting for an answer."""
        self._open.discard(self)
        host, port = (self._transport.get_extra_info("peername") or ("?", "?"))[:2]
        _LOG.warning("%s:%s %s", host, port, why)
        self._transport.abort()

    def rank(self, now: float) -> int | None:
        """Return how much is lost with this connection, 0 the least; None when its client does all it should."""
        if self._upgraded():  # uvicorn's notes that the server said goodbye and only waits for the client's
            return 0 if getattr(self._transport.get_protocol(), "close_sent", False) else None
        if self._transport.get_write_buffer_size():
            return 3 if now - self._stalled > 1 else None
        if not self._answering():
            return 0 if self._head or self._cycle is None else 1
        if not self._cycle.more_body or self.new(now):
            return None
        if now - self.heard > _SILENT and not self.paused():
            return 0
        return 2 if self._body < _SLOW * self._limits.body_rate * (now - self._since) else None

    def new(self, now: float) -> bool:
        """Say whether its request began so recently that nothing can be held against it."""
        return now - self._since <= _NEW

    def too_slow(self, now: float) -> str:
        """Return what the client did not do in time, empty when it did."""
        limits = self._limits
        unsent = self._transport.get_write_buffer_size()
        if not unsent or unsent < self._unsent:
            self._stalled = now
        self._unsent = unsent
        if now - self._stalled > limits.answer_seconds:
            return f"cut off: nothing of the answer was read for {limits.answer_seconds:g} s"
        if self._upgraded():
            return ""
        self._follow()
        if not self._answering():
            half_open = self._head or self._cycle is None  # one that was answered may idle: uvicorn ends it in time
            late = half_open and now - self._since > limits.head_seconds
            return f"cut off: no whole head of a request in {limits.head_seconds:g} s" if late else ""
        if self.paused():  # the client waits for the server
            self._since, self._body = now, 0
        if self._cycle.more_body and self._body < limits.body_rate * (now - self._since - limits.body_seconds):
            return f"cut off: the body of a request came at less than {limits.body_rate:g} bytes a second"
        return ""

    def _follow(self) -> None:
        """Notice that the protocol inside began with another request."""
        if self._inner.cycle is not self._cycle:
            self._cycle, self._since = self._inner.cycle, time.monotonic()
            self._head = self._body = 0

    def _answering(self) -> bool:
        return self._cycle is not None and not self._cycle.response_complete

    def _upgraded(self) -> bool:
        """Say whether the connection is a WebSocket by now, whose own pings find a client that is gone."""
        return self._transport.get_protocol() is not self
