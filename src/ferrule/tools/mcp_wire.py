"""How JSON-RPC messages of the Model Context Protocol travel: a child process's pipes, and streamable HTTP.

Both wires are coroutines of one event loop. A wire hands every message it receives to ``take`` and says once, through
``lose``, that the connection is gone and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from ferrule.core.hosts import on_this_machine

__all__ = ["Http", "Lost", "Stdio", "Wire", "events"]

Message = dict[str, Any]

_INHERITED = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
_BACKLOG = 32 << 20  # bytes that may wait for a server which does not read its input
_PATIENCE = 2.0  # seconds a server gets to end by itself


class Lost(Exception):
    """The connection to the server is gone, or was never established; the message says why."""


class Wire(Protocol):
    """Carries messages to a server and back."""

    async def start(self) -> None:
        """Open the wire; raises ``Lost``."""
        ...

    async def send(self, message: Message) -> None:
        """Send one message; for a request over HTTP this lasts until it is answered. Raises ``Lost``."""
        ...

    def agreed(self, version: str) -> None:
        """Take note of the protocol revision that both sides speak from now on."""
        ...

    async def close(self) -> None:
        """End the connection and free everything."""
        ...


class Stdio:
    """A server that is a child process: one JSON message per line on its standard input and output.

    The child leads a process group of its own, which is killed at ``close``. It sees only a few harmless variables of
    this process's environment, and ``env`` on top. ``largest`` bounds one line in bytes.
    """

    def __init__(
        self,
        command: Sequence[str],
        take: Callable[[Any], None],
        lose: Callable[[str], None],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        largest: int = 16 << 20,
    ) -> None:
        self._command = list(command)
        self._take = take
        self._lose = lose
        self._env = {name: os.environ[name] for name in _INHERITED if name in os.environ} | dict(env or {})
        self._cwd = cwd
        self._largest = largest
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stderr: deque[str] = deque(maxlen=20)

    @property
    def stderr(self) -> str:
        """The last lines that the server wrote to its standard error."""
        return "\n".join(self._stderr)

    async def start(self) -> None:
        """Start the process."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
                limit=self._largest,
            )
        except (OSError, ValueError) as problem:
            raise Lost(f"{self._command[0]!r} cannot be started: {problem}") from None
        self._tasks = [asyncio.ensure_future(self._read()), asyncio.ensure_future(self._listen())]

    async def send(self, message: Message) -> None:
        """Write one line."""
        assert self._process is not None
        assert self._process.stdin is not None
        stdin = self._process.stdin
        if stdin.transport.get_write_buffer_size() > _BACKLOG:
            self._lose("the server does not read its input")
            raise Lost("the server does not read its input")
        try:
            stdin.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
            await stdin.drain()
        except (ConnectionError, RuntimeError):
            raise Lost("the server closed its input") from None

    def agreed(self, version: str) -> None:
        """A pipe carries every revision the same way."""

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        reason = ""
        try:
            while line := await self._process.stdout.readline():
                if line.strip():
                    # Other output is noise that a library of the server printed; the protocol has no reply to it.
                    with contextlib.suppress(ValueError, RecursionError):
                        self._take(json.loads(line))
        except ValueError:
            reason = f"the server wrote a line of more than {self._largest} bytes"
        if not reason:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), 0.5)
            with contextlib.suppress(TimeoutError):  # its last words
                await asyncio.wait_for(asyncio.shield(self._tasks[1]), 0.5)
            reason = _ending(self._process.returncode)
        stderr = self.stderr
        self._lose(f"{reason}; it said:\n{stderr}" if stderr else reason)

    async def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        rest = b""
        while block := await self._process.stderr.read(4096):
            *lines, rest = (rest + block).split(b"\n")
            self._stderr.extend(line[-500:].decode(errors="replace").rstrip() for line in lines)
            rest = rest[-500:]
        if rest:
            self._stderr.append(rest.decode(errors="replace"))

    async def close(self) -> None:
        """Close the child's input, wait a moment for it to end, then kill its whole group."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _PATIENCE)
        # Its own children may outlive it: the group is killed in any case.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        transport: Any = getattr(process, "_transport", None)
        if transport is not None:  # pipes that a grandchild keeps open would otherwise stay with this loop
            transport.close()


def _ending(code: int | None) -> str:
    if code is None:
        return "the server closed its output"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"the server was killed by {signal.Signals(-code).name}"
    return f"the server ended with exit code {code}"


class Http:
    """A server behind a URL: every message is a POST, answered by JSON or by a stream of server-sent events.

    The session id that the server hands out travels with every later request; ``close`` ends the session with DELETE.
    Redirects are not followed, so that ``headers`` reach the named server only.
    """

    stderr = ""

    def __init__(
        self,
        url: str,
        take: Callable[[Any], None],
        lose: Callable[[str], None],
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float = 30.0,
        largest: int = 16 << 20,
    ) -> None:
        host = urlsplit(url).hostname or ""
        self._url = url
        self._take = take
        self._lose = lose
        self._largest = largest
        self._session = ""
        self._version = ""
        self._listener: asyncio.Task[None] | None = None
        self._client = httpx.AsyncClient(
            headers=dict(headers or {}),
            timeout=httpx.Timeout(None, connect=seconds),  # the caller's own limit ends a request
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
            trust_env=not on_this_machine(host),
        )

    async def start(self) -> None:
        """Nothing is opened before the first message."""

    def agreed(self, version: str) -> None:
        """Name the revision in every later request, and listen to what the server says unasked."""
        self._version = version
        if self._session:
            self._listener = asyncio.ensure_future(self._listen())

    def _headers(self, accept: str) -> dict[str, str]:
        named = {"accept": accept}
        if self._session:
            named["mcp-session-id"] = self._session
        if self._version:
            named["mcp-protocol-version"] = self._version
        return named

    async def send(self, message: Message) -> None:
        """POST one message and take in whatever comes back, until its answer is among it."""
        wanted = message.get("id") if "method" in message else None
        headers = self._headers("application/json, text/event-stream") | {"content-type": "application/json"}
        body = json.dumps(message, separators=(",", ":")).encode()
        try:
            async with self._client.stream("POST", self._url, headers=headers, content=body) as response:
                if response.status_code == 404 and self._session:
                    self._lose("the server has ended the session")
                    raise Lost("the server has ended the session")
                if message.get("method") == "initialize" and response.is_success:
                    self._session = response.headers.get("mcp-session-id", "")
                if wanted is None and response.is_success:
                    return
                await self._answer(response, wanted)
        except httpx.HTTPError as problem:
            raise Lost(f"no answer: {type(problem).__name__}: {problem}".rstrip(": ")) from None
        except httpx.InvalidURL as problem:
            raise Lost(f"{self._url!r} is not a usable URL: {problem}") from None

    async def _answer(self, response: httpx.Response, wanted: Any) -> None:
        kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
        if response.is_success and kind == "text/event-stream":
            async for data in events(response.aiter_bytes(), self._largest):
                message = _parsed(data)
                if message is not None:
                    self._take(message)
                    if _answers(message, wanted):
                        return
            raise Lost("the server ended the stream before the answer")
        body = await self._whole(response)
        message = _parsed(body) if kind == "application/json" else None
        if isinstance(message, dict) and "error" in message and message.get("id") is None:
            message["id"] = wanted  # an error that was found before the id was read
        if message is None or not _answers(message, wanted):
            excerpt = body[:200].decode(errors="replace").strip()
            raise Lost(f"the server answered {response.status_code} {response.reason_phrase}: {excerpt}".rstrip(": "))
        self._take(message)

    async def _whole(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for block in response.aiter_bytes():
            body += block
            if len(body) > self._largest:
                raise Lost(f"the server answered with more than {self._largest} bytes")
        return bytes(body)

    async def _listen(self) -> None:
        """Keep the stream of unasked messages open, where the server offers one."""
        for pause in (0.0, 1.0, 4.0):
            await asyncio.sleep(pause)
            with contextlib.suppress(httpx.HTTPError, Lost):
                async with self._client.stream(
                    "GET", self._url, headers=self._headers("text/event-stream")
                ) as response:
                    if response.status_code != 200:
                        return
                    async for data in events(response.aiter_bytes(), self._largest):
                        message = _parsed(data)
                        if message is not None:
                            self._take(message)

    async def close(self) -> None:
        """End the session at the server and close all sockets."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        if self._session:
            with contextlib.suppress(httpx.HTTPError, TimeoutError):
                await asyncio.wait_for(
                    self._client.delete(self._url, headers=self._headers("application/json")), _PATIENCE
                )
        await self._client.aclose()


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _answers(message: Any, wanted: Any) -> bool:
    """Tell whether a message, or one of a batch, is the answer to the request ``wanted``."""
    batch = message if isinstance(message, list) else [message]
    return any(
        isinstance(message, dict) and "method" not in message and message.get("id") == wanted for message in batch
    )


async def events(blocks: AsyncIterator[bytes], largest: int) -> AsyncIterator[bytes]:
    """Yield the data of each ``message`` event of a stream of them; raises ``Lost`` past ``largest`` bytes."""
    rest, data, kind = b"", b"", b"message"
    async for block in blocks:
        *lines, rest = (rest + block).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            if not line:
                if data and kind == b"message":
                    yield data
                data, kind = b"", b"message"
                continue
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data = data + b"\n" + value if data else value
            elif field == b"event":
                kind = value
        if len(rest) + len(data) > largest:
            raise Lost(f"the server sent an event of more than {largest} bytes")
