"""Tools behind the Model Context Protocol (https://modelcontextprotocol.io), over streamable HTTP and over stdio.

``mcp_routes`` makes routes for a Starlette application, ``run_stdio`` serves the process's own standard input and
output. A protocol session is an episode of the host: its tool calls share state, and its end ends the episode.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ferrule.serve.host import Host
from ferrule.serve.mcp_rpc import INVALID, PARSE, McpSession, failure, near
from ferrule.tools.mcp_content import REVISIONS

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = ["mcp_routes", "run_stdio"]

_SESSION = "mcp-session-id"
_WAITING = 256  # requests under way over stdio before reading on


class TooLarge(Exception):
    """A request body over the limit."""


@dataclass
class _Sessions:
    """Protocol sessions by id, the longest unused first."""

    host: Host
    most: int
    idle: float
    name: str
    instructions: str
    open: dict[str, McpSession] = field(default_factory=dict)

    async def begin(self) -> McpSession | None:
        """Open a session, or return None when there are as many as allowed."""
        now = time.monotonic()
        for session in list(self.open.values()):
            if now - session.used > self.idle and not session.running:
                await self.finish(session.episode)
        if len(self.open) >= self.most:
            return None
        session = McpSession(self.host, secrets.token_hex(16), name=self.name, instructions=self.instructions)
        self.open[session.episode] = session
        return session

    async def finish(self, episode: str) -> None:
        """End a session and its episode."""
        session = self.open.pop(episode, None)
        if session is not None:
            session.stop()
            await self.host.end(episode)


def mcp_routes(
    host: Host,
    *,
    path: str = "/mcp",
    name: str = "ferrule",
    instructions: str = "",
    origins: Sequence[str] = (),
    largest: int = 4 << 20,
    sessions: int = 1024,
    idle: float = 3600.0,
) -> list[Route]:
    """Return the route that serves ``host`` over streamable HTTP, for a Starlette application (extra ``serve``).

    The session id that ``initialize`` hands out is the episode id; DELETE ends it, and so do ``idle`` seconds without a
    request. ``sessions`` bounds how many are open, ``largest`` the body of a request in bytes. A request that a web
    page makes (one with an Origin) must come from this machine or from one of ``origins``: a page elsewhere whose
    name was pointed at this server is refused. Answers are JSON; unasked messages are not streamed.
    """
    from starlette.routing import Route

    endpoint = _Endpoint(_Sessions(host, sessions, idle, name, instructions), origins, largest)
    return [Route(path, endpoint.handle, methods=["GET", "POST", "DELETE"])]


@dataclass
class _Endpoint:
    """The streamable HTTP endpoint of an MCP server."""

    sessions: _Sessions
    origins: Sequence[str]
    largest: int

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        from starlette.responses import Response

        if not near(request.headers.get("origin"), self.origins):
            return _failed(403, "this origin may not speak to the server")
        version = request.headers.get("mcp-protocol-version")
        if version is not None and version not in REVISIONS:
            return _failed(400, f"protocol revision {version!r} is not spoken here; known: {', '.join(REVISIONS)}")
        if request.method == "GET":
            return Response(status_code=405, headers={"allow": "POST, DELETE"})
        episode = request.headers.get(_SESSION)
        if request.method == "DELETE":
            if episode is None or episode not in self.sessions.open:
                return _failed(404, "no such session")
            await self.sessions.finish(episode)
            return Response(status_code=204)
        try:
            message = json.loads(await _body(request, self.largest))
        except TooLarge:
            return _failed(413, f"the request has more than {self.largest} bytes")
        except (ValueError, RecursionError):
            return _failed(400, "the request is not JSON", PARSE)
        if isinstance(message, dict) and message.get("method") == "initialize":
            return await self._initialize(message)
        return await self._go_on(episode, message)

    async def _initialize(self, message: dict[str, Any]) -> Response:
        """Open a session; its id goes into a header."""
        from starlette.responses import JSONResponse

        session = await self.sessions.begin()
        if session is None:
            return _failed(503, f"{self.sessions.most} sessions are open already; try again later")
        answer = await session.answer(message)
        if answer is None or "error" in answer:
            await self.sessions.finish(session.episode)
            return JSONResponse(answer, 400) if answer else _failed(400, "initialize must be a request with an id")
        return JSONResponse(answer, headers={_SESSION: session.episode})

    async def _go_on(self, episode: str | None, message: Any) -> Response:
        """Answer a message of an open session."""
        from starlette.responses import JSONResponse, Response

        if episode is None:
            return _failed(400, f"the header {_SESSION} is missing; initialize first")
        if episode not in self.sessions.open:
            return _failed(404, "no such session; initialize again")
        session = self.sessions.open.pop(episode)
        self.sessions.open[episode] = session  # the last used stands last
        answer = await session.answer(message)
        return Response(status_code=202) if answer is None else JSONResponse(answer)


def _failed(status: int, text: str, code: int = INVALID) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(failure(None, code, text), status)


async def _body(request: Request, largest: int) -> bytes:
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > largest:
            raise TooLarge
    return bytes(body)


async def run_stdio(host: Host, *, name: str = "ferrule", instructions: str = "", largest: int = 4 << 20) -> None:
    """Serve ``host`` on standard input and output until the input ends; the process is one episode.

    What tools print goes to standard error, and they cannot read the protocol's input. ``largest`` bounds one line in
    bytes.
    """
    session = McpSession(host, secrets.token_hex(16), name=name, instructions=instructions)
    running: set[asyncio.Task[None]] = set()
    async with _own_pipes() as (source, sink):
        writing = asyncio.Lock()

        async def write(answer: Any) -> None:
            if answer is not None:
                line = json.dumps(answer, separators=(",", ":")).encode() + b"\n"
                async with writing:
                    await asyncio.to_thread(_write_all, sink, line)

        async def serve(line: bytes) -> None:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                await write(failure(None, PARSE, "the line is not JSON"))
                return
            await write(await session.answer(message))

        async for line in _lines(source, largest):
            if line is None:
                await write(failure(None, INVALID, f"the line has more than {largest} bytes"))
            elif line.strip():
                task = asyncio.ensure_future(serve(line))
                running.add(task)
                task.add_done_callback(running.discard)
                if len(running) >= _WAITING:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        try:
            # Whoever closed the input may still read: calls under way are answered first.
            await asyncio.gather(*running, return_exceptions=True)
        finally:
            await host.end(session.episode)


@contextlib.asynccontextmanager
async def _own_pipes() -> AsyncIterator[tuple[int, int]]:
    """Reserve standard input and output for the protocol; prints go to standard error meanwhile."""
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield source, sink
    finally:
        sys.stdout.flush()  # what somebody wrote to the old object meanwhile
        os.dup2(source, 0)
        os.dup2(sink, 1)
        os.close(source)
        os.close(sink)


async def _lines(source: int, largest: int) -> AsyncIterator[bytes | None]:
    """Yield the lines of a descriptor; None for one that was too long. The reading thread never holds up exit."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | EOFError | None] = asyncio.Queue(64)

    def read() -> None:
        def give(item: bytes | EOFError | None) -> None:
            asyncio.run_coroutine_threadsafe(queue.put(item), loop).result()

        with contextlib.suppress(RuntimeError, asyncio.CancelledError, OSError):  # the loop is gone
            with os.fdopen(os.dup(source), "rb") as stream:
                while line := stream.readline(largest + 1):
                    whole = len(line) <= largest or line.endswith(b"\n")
                    while not whole and (more := stream.readline(largest + 1)) and not more.endswith(b"\n"):
                        pass
                    give(line if whole else None)
            give(EOFError())

    threading.Thread(target=read, name="mcp stdio", daemon=True).start()
    while not isinstance(item := await queue.get(), EOFError):
        yield item


def _write_all(sink: int, line: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        view = memoryview(line)
        while view:
            view = view[os.write(sink, view) :]
