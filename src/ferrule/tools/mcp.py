"""Tools of a Model Context Protocol server, over a child process's pipes or streamable HTTP.

``connect`` speaks the protocol itself (https://modelcontextprotocol.io), so it works beside either line of the official
SDK. The connection lives on an event loop in a thread of its own; its tools may be used from any thread.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import itertools
import json
import shlex
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ferrule import __version__
from ferrule.core.arrays import nearest
from ferrule.core.clip import clip
from ferrule.core.records import Effect, Observation, Tool
from ferrule.tools.mcp_content import REVISIONS, observation
from ferrule.tools.mcp_wire import Http, Lost, Stdio

__all__ = ["Connection", "connect"]

T = TypeVar("T")

_UNKNOWN_METHOD = -32601
_PAGES = 1000  # of tools/list; a server that names more is broken
_GRACE = 8.0  # seconds that the caller waits for closing at most


def connect(
    *,
    command: Sequence[str] | str | None = None,
    url: str | None = None,
    headers: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    seconds: float = 30.0,
    limit: int | None = 20_000,
    prefix: str = "",
    concurrent: int = 32,
    effects: Mapping[str, Effect] | None = None,
    largest: int = 16 << 20,
) -> Connection:
    """Connect to an MCP server and list its tools; exactly one of ``command`` and ``url`` is given.

    ``seconds`` is the time limit of the handshake and of one call, ``limit`` the longest text in characters,
    ``concurrent`` how many requests may be under way at once (others wait, within their limit), and ``largest`` the
    largest message in bytes. ``prefix`` goes before every tool name. ``effects`` overrides what the server's
    annotations say of a tool, by the server's name for it. A ``command`` sees a few harmless environment variables
    and those of ``env``. Raises ``ConnectionError`` when no server answers, ``ValueError`` for invalid
    settings.
    """
    if (command is None) == (url is None):
        raise ValueError("an MCP server is given by command=[...] or by url=..., one of the two")
    if not seconds > 0 or concurrent < 1 or largest < 1:
        raise ValueError("seconds must be above 0, concurrent and largest at least 1")
    for name, effect in (effects or {}).items():
        if effect not in ("read", "write", "irreversible"):
            raise ValueError(f"effects[{name!r}] is {effect!r}; {nearest(effect, ['read', 'write', 'irreversible'])}")
    if url is not None and (urlsplit(url).scheme not in ("http", "https") or env or cwd):
        raise ValueError(f"{url!r} must start with http:// or https://; env and cwd belong to a command")
    if command is not None and headers:
        raise ValueError("headers belong to a url; a command takes env")
    words = shlex.split(command) if isinstance(command, str) else list(command or ())
    if command is not None and not words:
        raise ValueError("the command is empty; give the program and its arguments")
    connection = Connection(seconds=seconds, limit=limit, prefix=prefix, concurrent=concurrent, effects=effects or {})
    if url is not None:
        connection.wire = Http(url, connection.take, connection.lose, headers=headers, seconds=seconds, largest=largest)
    else:
        connection.wire = Stdio(words, connection.take, connection.lose, env=env, cwd=cwd, largest=largest)
    try:
        connection.open()
    except Exception as problem:
        stderr = connection.wire.stderr
        connection.close()
        why = f"no answer within {seconds:g} s" if isinstance(problem, TimeoutError) else str(problem)
        if stderr and stderr not in why:
            why = f"{why}; it said:\n{stderr}"
        raise ConnectionError(f"no MCP server at {url or shlex.join(words)}: {why}") from None
    return connection


class Refused(Exception):
    """The server answered a request with an error."""


class Connection:
    """A connection to one MCP server: its ``tools``, ``call``, and ``close`` (also a context manager).

    Every request has an id, and only the answer of that id is taken: one that comes after its limit is dropped and
    never given to another call. When the server ends, open and later calls come back as observations of status
    ``error`` that say why.
    """

    wire: Stdio | Http

    def __init__(
        self,
        *,
        seconds: float,
        limit: int | None,
        prefix: str,
        concurrent: int,
        effects: Mapping[str, Effect],
    ) -> None:
        self.server: Mapping[str, Any] = {}
        self.version = ""
        self.instructions = ""
        self._seconds = seconds
        self._limit = limit
        self._prefix = prefix
        self._effects = dict(effects)
        self._tools: tuple[Tool, ...] = ()
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)
        self._slots = asyncio.Semaphore(concurrent)
        self._reason = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._gate = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name="mcp", daemon=True)
        self._thread.start()

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    # ------------------------------------------------------------------------------------------ what the caller uses

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The server's tools; the list is renewed when the server says that it changed."""
        return self._tools

    def call(self, name: str, arguments: Mapping[str, Any] | None = None, seconds: float | None = None) -> Observation:
        """Call a tool by the server's name for it; waits at most ``seconds`` (default: those of ``connect``)."""
        within = self._seconds if seconds is None else seconds
        try:
            return self._submit(self._call(name, dict(arguments or {}), within)).result()
        except concurrent.futures.CancelledError:
            return Observation("the connection to the MCP server was closed", "error")

    def close(self) -> None:
        """End the session and the server's process; may be called twice."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self.close)
        with contextlib.suppress(concurrent.futures.TimeoutError):
            asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(_GRACE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_GRACE)

    def __enter__(self) -> Connection:
        """Use the connection in a ``with`` statement."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    # ----------------------------------------------------------------------------------------------------- start, end

    def open(self) -> None:
        """Shake hands and list the tools; ``connect`` does this."""
        atexit.register(self.close)
        self._submit(asyncio.wait_for(self._start(), self._seconds)).result()

    async def _start(self) -> None:
        await self.wire.start()
        hello = {
            "protocolVersion": REVISIONS[-1],
            "capabilities": {},
            "clientInfo": {"name": "ferrule", "version": __version__},
        }
        answer = await self._request("initialize", hello)
        version = answer.get("protocolVersion") if isinstance(answer, dict) else None
        if version not in REVISIONS:
            raise Lost(f"the server speaks protocol revision {version!r}; this client speaks {', '.join(REVISIONS)}")
        self.version = str(version)
        self.server = answer.get("serverInfo") or {}
        self.instructions = str(answer.get("instructions") or "")
        self.wire.agreed(self.version)
        await self.wire.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        if "tools" in (answer.get("capabilities") or {}):
            self._tools = await self._list()

    async def _shut(self) -> None:
        self.lose("the connection was closed")
        await self.wire.close()
        # Whoever waits for a call gets its observation before the loop stops.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            _, late = await asyncio.wait(others, timeout=1.0)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        with self._gate:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        refused: concurrent.futures.Future[T] = concurrent.futures.Future()
        refused.cancel()
        return refused

    # ---------------------------------------------------------------------------------------- requests, on the loop

    async def _request(self, method: str, params: Mapping[str, Any]) -> Any:
        """Send a request and wait for its answer; cancelling the wait tells the server to stop."""
        async with self._slots:
            if self._reason:
                raise Lost(self._reason)
            number = next(self._ids)
            answer: asyncio.Future[Any] = self._loop.create_future()
            self._pending[number] = answer
            message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            sending = asyncio.ensure_future(self.wire.send(message))
            try:
                await asyncio.wait({sending, answer}, return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    sending.result()  # raises when the message could not be sent
                return await answer
            except asyncio.CancelledError:
                if method != "initialize" and not self._reason:
                    gone = {"requestId": number, "reason": "the caller stopped waiting"}
                    self._notify({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": gone})
                raise
            finally:
                self._pending.pop(number, None)
                answer.cancel()
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    def _notify(self, message: Mapping[str, Any]) -> None:
        async def send() -> None:
            with contextlib.suppress(Lost, TimeoutError):
                await asyncio.wait_for(self.wire.send(dict(message)), self._seconds)

        self._spawn(send())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, name: str, arguments: dict[str, Any], seconds: float | None) -> Observation:
        try:
            asked = self._request("tools/call", {"name": name, "arguments": arguments})
            result = await asyncio.wait_for(asked, seconds)
        except TimeoutError:
            return Observation(f"{name} was stopped after {seconds:g} s", "timeout")
        except Lost as problem:
            return Observation(clip(f"MCP server lost: {problem}", self._limit, "tail"), "error", data={"lost": True})
        except Refused as problem:
            return Observation(clip(str(problem), self._limit), "error")
        if not isinstance(result, dict):
            return Observation("the MCP server answered without a result", "error")
        return observation(result, self._limit)

    async def _list(self) -> tuple[Tool, ...]:
        """Follow ``tools/list`` through its pages; the first tool of a name counts."""
        tools: dict[str, Tool] = {}
        cursor: str | None = None
        for _ in range(_PAGES):
            page = await self._request("tools/list", {} if cursor is None else {"cursor": cursor})
            for entry in page.get("tools") or () if isinstance(page, dict) else ():
                if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                    tool = self._tool(entry)
                    tools.setdefault(tool.name, tool)
            before, cursor = cursor, page.get("nextCursor") if isinstance(page, dict) else None
            if cursor is None:
                return tuple(tools.values())
            if cursor == before:
                break
        raise Lost("the server's list of tools has no end")

    def _tool(self, entry: Mapping[str, Any]) -> Tool:
        name = str(entry["name"])

        async def run(**arguments: Any) -> Observation:
            # Whoever runs the tool holds its limit, which cancels this wait; the request is then cancelled as well.
            try:
                return await asyncio.wrap_future(self._submit(self._call(name, arguments, None)))
            except asyncio.CancelledError:
                if self._closed:
                    return Observation("the connection to the MCP server was closed", "error")
                raise

        described = _described(entry, run)
        chosen = self._effects.get(name, described.effects)
        return replace(described, name=self._prefix + name, effects=chosen, seconds=self._seconds)

    # -------------------------------------------------------------------------------------------- called by the wire

    def take(self, message: Any) -> None:
        """Take in one message of the server, or a batch of them."""
        if isinstance(message, list):
            for part in message:
                self.take(part)
            return
        if not isinstance(message, dict):
            return
        if "method" not in message:
            self._answered(message)
        elif message.get("id") is not None:
            reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
            if message["method"] == "ping":
                reply["result"] = {}
            else:
                refusal = f"this client does not offer {message['method']}"
                reply["error"] = {"code": _UNKNOWN_METHOD, "message": refusal}
            self._notify(reply)
        elif message["method"] == "notifications/tools/list_changed":
            self._spawn(self._renew())

    def _answered(self, message: Mapping[str, Any]) -> None:
        number = message.get("id")
        answer = self._pending.get(number) if isinstance(number, int) else None
        if answer is None or answer.done():
            return
        if "error" not in message:
            answer.set_result(message.get("result"))
            return
        error = message["error"] if isinstance(message["error"], dict) else {}
        reason = str(error.get("message", "unknown error"))
        if error.get("data"):
            reason += f" {json.dumps(error['data'])[:500]}"
        answer.set_exception(Refused(f"the MCP server refused: {reason} ({error.get('code')})"))

    async def _renew(self) -> None:
        with contextlib.suppress(Exception):  # without a new list the known one stays
            self._tools = await asyncio.wait_for(self._list(), self._seconds)

    def lose(self, reason: str) -> None:
        """Note that the connection is gone; whoever waits for an answer is told."""
        self._reason = self._reason or reason
        for answer in list(self._pending.values()):
            if not answer.done():
                answer.set_exception(Lost(self._reason))


def _described(entry: Mapping[str, Any], run: Callable[..., Any]) -> Tool:
    """Return a tool as its server describes it. Missing hints have the defaults of the protocol: a call may destroy."""
    given = entry.get("annotations")
    hints = given if isinstance(given, dict) else {}
    reads = hints.get("readOnlyHint") is True
    effects: Effect = "read" if reads else "write" if hints.get("destructiveHint") is False else "irreversible"
    output = entry.get("outputSchema")
    schema = entry.get("inputSchema")
    return Tool(
        name=str(entry["name"]),
        description=str(entry.get("description") or entry.get("title") or hints.get("title") or ""),
        parameters=schema if isinstance(schema, dict) else {"type": "object", "properties": {}},
        run=run,
        effects=effects,
        idempotent=reads or hints.get("idempotentHint") is True,
        output=output if isinstance(output, dict) else None,
    )
