"""The protocol of an OpenEnv server: frames over a WebSocket, and JSON-RPC of OpenEnv's tool clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from ferrule.serve.mcp_rpc import INVALID, failure
from ferrule.serve.openenv_connections import Connection, Connections
from ferrule.serve.openenv_episode import Unfit, listed

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

__all__ = ["answer_rpc", "serve_socket"]

_PARAMS, _UNKNOWN, _SERVER = -32602, -32601, -32000


async def serve_socket(socket: WebSocket, connections: Connections, largest: int) -> None:
    """Serve one connection from its first frame to its end."""
    from starlette.websockets import WebSocketDisconnect

    await socket.accept()
    name = socket.query_params.get("session_id")
    connection = connections.open() if name is None else connections.named.get(name)
    if connection is None or connection.attached:
        why = (
            f"{connections.most} sessions are open already; try again later"
            if name is None
            else f"no free session {name!r}"
        )
        await _refuse(socket, why, "CAPACITY_REACHED" if name is None else "SESSION_ERROR", 1013)
        return
    connection.attached = True
    try:
        while True:
            text = await asyncio.wait_for(_frame(socket), connections.idle)
            if text is None or len(text) > largest:
                await _refuse(socket, f"a frame is a text of at most {largest} characters", "VALIDATION_ERROR", 1009)
                return
            answer, code = await _answer(text, connection, connections)
            if answer is not None:
                await socket.send_text(json.dumps(answer))
            if code:
                await socket.close(code)
                return
    except (WebSocketDisconnect, RuntimeError):
        pass  # the client is gone
    except TimeoutError:
        await _refuse(socket, f"nothing came for {connections.idle:g} s", "SESSION_ERROR", 1001)
    finally:
        connection.attached = False
        if name is None:
            connections.close(connection)


async def _frame(socket: WebSocket) -> str | None:
    from starlette.websockets import WebSocketDisconnect

    message = await socket.receive()
    if message["type"] != "websocket.receive":
        raise WebSocketDisconnect(message.get("code", 1000))
    text = message.get("text")
    return text if isinstance(text, str) else None


async def _refuse(socket: WebSocket, text: str, code: str, closing: int) -> None:
    with contextlib.suppress(RuntimeError):
        await socket.send_text(json.dumps(_error(text, code)))
        await socket.close(closing)


def _error(text: str, code: str) -> dict[str, Any]:
    return {"type": "error", "data": {"message": text, "code": code}}


async def _answer(text: str, connection: Connection, connections: Connections) -> tuple[dict[str, Any] | None, int]:
    """Return the answer to a frame, and the code to close the connection with (0 keeps it open)."""
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        return _error("the frame is not JSON", "INVALID_JSON"), 1007
    kind = frame.get("type") if isinstance(frame, dict) else None
    if kind not in ("reset", "step", "state", "close", "mcp"):
        return _error(f"a frame's type is reset, step, state, close or mcp, not {kind!r}", "UNKNOWN_TYPE"), 1008
    data = frame.get("data", {})
    if not isinstance(data, dict) or (kind == "step" and "data" not in frame):
        return _error(f"the data of a {kind} frame must be an object", "VALIDATION_ERROR"), 1008
    if kind == "close":
        return None, 1000
    if kind == "mcp":
        return {"type": "mcp", "data": await answer_rpc(data, connections, connection)}, 0
    return await _step(kind, data, connection, connections)


async def _step(
    kind: str, data: dict[str, Any], connection: Connection, connections: Connections
) -> tuple[dict[str, Any], int]:
    environment = connection.environment
    try:
        if kind == "state":
            return {"type": "state", "data": await connection.run(environment.state, connections.seconds)}, 0
        if kind == "reset":
            turn = next(connections.turns)
            observation = await connection.run(lambda: environment.reset(data, turn), connections.seconds)
        else:
            observation = await connection.run(lambda: environment.step(data), connections.seconds)
        return {"type": "observation", "data": observation}, 0
    except Unfit as problem:
        return _error(str(problem), "VALIDATION_ERROR"), 0
    except TimeoutError:
        return _error(
            f"the {kind} took more than {connections.seconds:g} s; the session is closed", "SESSION_ERROR"
        ), 1011
    except Exception as problem:  # the world or the reward failed: the session cannot be relied on any more
        return _error(f"{type(problem).__name__}: {problem}", "EXECUTION_ERROR"), 1011


async def answer_rpc(message: Any, connections: Connections, connection: Connection | None = None) -> dict[str, Any]:
    """Answer a JSON-RPC request of OpenEnv's tool clients: sessions by id, their tools, and calls of them."""
    message = message if isinstance(message, dict) else {}
    number, method, params = message.get("id"), message.get("method"), message.get("params") or {}
    if not isinstance(method, str) or not isinstance(params, dict):
        return failure(number, INVALID, "a request has a method and an object of params")
    if method == "openenv/session/create":
        opened = connection or connections.open()
        if opened is None:
            return failure(number, _SERVER, f"{connections.most} sessions are open already; try again later")
        connections.named[opened.name] = opened
        return {"jsonrpc": "2.0", "id": number, "result": {"session_id": opened.name}}
    name = str(params.get("session_id", ""))
    connection = connection or connections.named.get(name)
    if connection is None:
        return failure(number, _PARAMS, "session_id is missing or unknown; create a session first")
    if method == "openenv/session/close":
        connections.close(connection)
        return {"jsonrpc": "2.0", "id": number, "result": {"session_id": connection.name, "closed": True}}
    if method not in ("tools/list", "tools/call"):
        return failure(number, _UNKNOWN, f"no method {method!r}; there are tools/list and tools/call")
    return await _tools(number, method, params, connection, connections)


async def _tools(
    number: Any, method: str, params: dict[str, Any], connection: Connection, connections: Connections
) -> dict[str, Any]:
    environment = connection.environment
    session = environment.session
    if session is None:
        return failure(number, _SERVER, "no episode yet; reset first")
    if method == "tools/list":
        return {"jsonrpc": "2.0", "id": number, "result": {"tools": listed(session)}}
    action = {"tool_name": params.get("name"), "arguments": params.get("arguments") or {}}
    try:
        outcome = await connection.run(lambda: environment.step(action), connections.seconds)
    except Unfit as problem:
        return failure(number, _PARAMS, str(problem))
    except TimeoutError:
        connections.close(connection)
        return failure(number, _SERVER, f"the call took more than {connections.seconds:g} s; the session is closed")
    except Exception as problem:
        connections.close(connection)
        return failure(number, _SERVER, f"{type(problem).__name__}: {problem}; the session is closed")
    observation = outcome["observation"]
    content = {"content": [{"type": "text", "text": observation["text"]}], "isError": observation["status"] != "ok"}
    return {"jsonrpc": "2.0", "id": number, "result": content | {"data": observation["result"]}}
