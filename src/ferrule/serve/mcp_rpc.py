"""One Model Context Protocol session on the server's side: JSON-RPC messages in, answers out."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ferrule import __version__
from ferrule.core.exact import plain
from ferrule.core.records import Artifact, Call, Observation, Tool
from ferrule.serve.access import loopback
from ferrule.serve.host import Host
from ferrule.tools.mcp_content import REVISIONS

__all__ = ["INVALID", "PARSE", "McpSession", "described", "failure", "near", "result"]

PARSE, INVALID, _UNKNOWN, _PARAMS, _INTERNAL, _CANCELLED = -32700, -32600, -32601, -32602, -32603, -32800
_PAGE = 200  # tools per page of tools/list


def failure(number: Any, code: int, text: str) -> dict[str, Any]:
    """Return a JSON-RPC error answer."""
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": text}}


def near(origin: str | None, allowed: Sequence[str]) -> bool:
    """Tell whether a request with this Origin header may be served.

    Programs send none. A web page does: it must come from this machine or from one of ``allowed``, since a page from
    elsewhere can have its own name pointed at this server.
    """
    if origin is None or origin.lower() in [name.rstrip("/").lower() for name in allowed]:
        return True
    with contextlib.suppress(ValueError):
        return loopback(urlsplit(origin).hostname or "")
    return False


class _Problem(Exception):
    """A request that is answered by an error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class McpSession:
    """A session: answers messages, one after the other or at the same time, for one episode of ``host``."""

    def __init__(self, host: Host, episode: str, *, name: str, instructions: str = "") -> None:
        self.host = host
        self.episode = episode
        self.used = time.monotonic()
        self.running: dict[Any, asyncio.Task[Observation]] = {}
        self._name = name
        self._instructions = instructions
        self._version = ""

    def stop(self) -> None:
        """Cancel the calls that are under way."""
        for task in list(self.running.values()):
            task.cancel()

    async def answer(self, message: Any) -> Any:
        """Answer a message; None for a notification or an answer, which have none. A batch is answered by a list."""
        self.used = time.monotonic()
        if isinstance(message, list) and message and self._version == "2025-03-26":  # the one revision with batches
            answers = [answer for answer in [await self._one(part) for part in message] if answer is not None]
            return answers or None
        return await self._one(message)

    async def _one(self, message: Any) -> dict[str, Any] | None:
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            return failure(None, INVALID, "a message is an object with jsonrpc 2.0")
        number, method = message.get("id"), message.get("method")
        if method is None and ("result" in message or "error" in message):
            return None  # this server asks nothing, so there is nothing to answer
        if not isinstance(method, str) or not (number is None or isinstance(number, (str, int))):
            return failure(None, INVALID, "a request has a method and an id that is a number or a string")
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        if number is None:
            self._notice(method, params)
            return None
        try:
            return {"jsonrpc": "2.0", "id": number, "result": await self._do(method, params, number)}
        except _Problem as problem:
            return failure(number, problem.code, str(problem))
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            return failure(number, _CANCELLED, "the call was cancelled")
        except Exception as problem:
            return failure(number, _INTERNAL, f"{type(problem).__name__}: {problem}")

    def _notice(self, method: str, params: Mapping[str, Any]) -> None:
        if method == "notifications/cancelled":
            wanted = params.get("requestId")
            task = self.running.get(wanted) if isinstance(wanted, (str, int)) else None
            if task is not None:
                task.cancel()

    async def _do(self, method: str, params: Mapping[str, Any], number: Any) -> Any:
        if method == "initialize":
            return self._begin(params)
        if method == "ping":
            return {}
        if method == "tools/list":
            return self._list(params.get("cursor"))
        if method == "tools/call":
            return await self._call(params, number)
        raise _Problem(_UNKNOWN, f"this server does not offer {method}; it offers tools")

    def _begin(self, params: Mapping[str, Any]) -> dict[str, Any]:
        asked = params.get("protocolVersion")
        self._version = asked if asked in REVISIONS else REVISIONS[-1]
        hello: dict[str, Any] = {
            "protocolVersion": self._version,
            "capabilities": {"tools": {"listChanged": False}},
            "serverInfo": {"name": self._name, "version": __version__},
        }
        return hello | ({"instructions": self._instructions} if self._instructions else {})

    def _list(self, cursor: Any) -> dict[str, Any]:
        start = 0
        if cursor is not None:
            if not (isinstance(cursor, str) and cursor.isdecimal() and len(cursor) < 10):
                raise _Problem(_PARAMS, f"{cursor!r} is not a cursor of this server")
            start = int(cursor)
        tools = self.host.tools
        page: dict[str, Any] = {"tools": [described(tool) for tool in tools[start : start + _PAGE]]}
        return page | ({"nextCursor": str(start + _PAGE)} if len(tools) > start + _PAGE else {})

    async def _call(self, params: Mapping[str, Any], number: Any) -> dict[str, Any]:
        name, arguments = params.get("name"), params.get("arguments")
        if not isinstance(name, str) or not isinstance(arguments, dict | None):
            raise _Problem(_PARAMS, "tools/call takes a name and an object of arguments")
        if number in self.running:
            raise _Problem(INVALID, f"the id {number!r} belongs to a request that is under way")
        call = Call(name, arguments or {}, id=str(number))
        task = asyncio.ensure_future(self.host.act(self.episode, call))
        self.running[number] = task
        try:
            observation = await task
        finally:
            task.cancel()
            self.running.pop(number, None)
        tool = next((tool for tool in self.host.tools if tool.name == name), None)
        return result(observation, tool)


def described(tool: Tool) -> dict[str, Any]:
    """Return a tool as ``tools/list`` shows it: effects become hints, an object-valued ``output`` its output schema."""
    hints: dict[str, Any] = {"readOnlyHint": tool.effects == "read"}
    if tool.effects != "read":
        hints |= {"destructiveHint": tool.effects == "irreversible", "idempotentHint": tool.idempotent}
    entry = {"name": tool.name, "description": tool.description, "inputSchema": {"type": "object", **tool.parameters}}
    return entry | ({"outputSchema": dict(tool.output or {})} if _structured(tool) else {}) | {"annotations": hints}


def _structured(tool: Tool | None) -> bool:
    return tool is not None and tool.output is not None and tool.output.get("type") == "object"


def result(observation: Observation, tool: Tool | None = None) -> dict[str, Any]:
    """Return an observation as the result of ``tools/call``.

    A status other than ``ok`` becomes ``isError``, images become image content, other artifacts embedded resources,
    and the data of a tool with an output schema ``structuredContent``.
    """
    content: list[dict[str, Any]] = [{"type": "text", "text": observation.text}]
    content += [block for file in observation.artifacts if (block := _file(file)) is not None]
    answer: dict[str, Any] = {"content": content, "isError": observation.status != "ok"}
    if observation.status == "ok" and _structured(tool):
        data = observation.data if observation.data is not None else _object(observation.text)
        if isinstance(data, Mapping):
            answer["structuredContent"] = plain(data)
    if observation.status != "ok":
        answer["_meta"] = {"ferrule/status": observation.status}
    return answer


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _file(file: Artifact) -> dict[str, Any] | None:
    head, _, body = file.source.partition(",")
    if not head.startswith("data:"):
        return None
    if not head.endswith(";base64"):
        body = base64.b64encode(body.encode()).decode()
    if file.media.startswith("image/"):
        return {"type": "image", "data": body, "mimeType": file.media}
    inside = {"uri": f"artifact:///{file.name}", "mimeType": file.media, "blob": body}
    return {"type": "resource", "resource": inside}
