"""A world behind the OpenEnv protocol (https://github.com/huggingface/OpenEnv), as a Starlette application.

Each WebSocket connection to ``/ws`` is one environment. A frame is ``{"type": ..., "data": ...}`` with the type
``reset``, ``step``, ``state`` or ``close``; the answer has the type ``observation``, ``state`` or ``error``. A frame
that cannot be read and a step that takes too long close the connection: a late answer is never taken for another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from ferrule import __version__
from ferrule.core.records import Reward, World
from ferrule.rewards.outcome import outcome
from ferrule.serve.mcp_rpc import INVALID, PARSE, failure, near
from ferrule.serve.openenv_episode import ACTION, Environment, Unfit, listed

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

__all__ = ["openenv_app"]

T = TypeVar("T")

_OBSERVED = {
    "title": "FerruleObservation",
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "status": {"enum": ["ok", "error", "timeout", "refused", "unknown_tool", "malformed"]},
        "data": {},
        "artifacts": {"type": "array"},
        "prompt": {"type": "string"},
        "task_id": {"type": "string"},
        "tools": {"type": "array"},
    },
}
_STATE = {
    "title": "FerruleState",
    "type": "object",
    "properties": {"episode_id": {"type": "string"}, "step_count": {"type": "integer"}, "task_id": {"type": "string"}},
}
_PARAMS, _UNKNOWN, _SERVER = -32602, -32601, -32000


class _Room:
    """An environment with a thread of its own, in which everything of it runs."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.name = secrets.token_hex(16)
        self.attached = False
        self.used = time.monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="openenv")

    async def run(self, work: Callable[[], T], seconds: float) -> T:
        self.used = time.monotonic()
        return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(self._thread, work), seconds)

    def leave(self) -> None:
        """Close the session when the call under way has ended; nobody waits for it."""
        self._thread.submit(self.environment.close)
        self._thread.shutdown(wait=False)


class _Rooms:
    """The environments that are open, and those that were opened over HTTP by id."""

    def __init__(self, make: Callable[[], Environment], most: int, seconds: float, idle: float) -> None:
        self.turns = itertools.count()
        self.named: dict[str, _Room] = {}
        self.seconds = seconds
        self.idle = idle
        self.most = most
        self._make = make
        self._open: set[_Room] = set()

    def enter(self) -> _Room | None:
        now = time.monotonic()
        for room in list(self.named.values()):  # a session over HTTP has no connection whose end would tell
            if not room.attached and now - room.used > self.idle:
                self.leave(room)
        if len(self._open) >= self.most:
            return None
        room = _Room(self._make())
        self._open.add(room)
        return room

    def leave(self, room: _Room) -> None:
        self.named.pop(room.name, None)
        if room in self._open:
            self._open.discard(room)
            room.leave()

    def leave_all(self) -> None:
        for room in list(self._open):
            self.leave(room)


def openenv_app(
    world: World,
    *,
    split: str = "test",
    reward: Reward = outcome,
    tasks: int = 256,
    seed: int = 0,
    max_sessions: int = 64,
    steps: int = 64,
    seconds: float = 120.0,
    idle: float = 1800.0,
    largest: int = 1 << 20,
    origins: Sequence[str] = (),
) -> Starlette:
    """Return an application that serves ``world`` as OpenEnv environments (extra ``serve``).

    ``reset`` takes ``task_id``, or a ``seed`` that picks one of ``tasks`` tasks of ``split`` (drawn with ``seed``), or
    neither for the next one; its observation has the prompt and the tools. ``step`` takes ``{name, arguments}`` or
    ``{answer}``; ``steps`` bounds an episode. ``reward`` scores the episode at its end and travels beside the last
    observation. ``max_sessions`` connections may be open at once; one is closed when a step takes longer than
    ``seconds``, when nothing comes for ``idle`` seconds, and at a frame of more than ``largest`` characters. Web pages
    may connect from this machine and from ``origins`` only.
    Raises ``ValueError`` when the world has no tasks of the split.
    """
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route, WebSocketRoute

    drawn = world.tasks(split, tasks, seed=seed)
    if not drawn:
        raise ValueError(f"world {world.name!r} has no tasks of split {split!r} to serve")
    rooms = _Rooms(lambda: Environment(world, drawn, reward, steps=steps), max_sessions, seconds, idle)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "healthy"})

    async def metadata(request: Request) -> Response:
        text = f"{len(drawn)} tasks of the world {world.name} ({split})"
        return JSONResponse({"name": world.name, "description": text, "version": __version__})

    async def schema(request: Request) -> Response:
        return JSONResponse({"action": ACTION, "observation": _OBSERVED, "state": _STATE})

    async def rpc(request: Request) -> Response:
        if not near(request.headers.get("origin"), origins):
            return JSONResponse(failure(None, INVALID, "this origin may not speak to the server"), 403)
        body = bytearray()
        async for block in request.stream():
            body += block
            if len(body) > largest:
                return JSONResponse(failure(None, INVALID, f"the request has more than {largest} bytes"), 413)
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            return JSONResponse(failure(None, PARSE, "the request is no JSON"), 400)
        return JSONResponse(await _rpc(message, rooms))

    async def connection(socket: WebSocket) -> None:
        if not near(socket.headers.get("origin"), origins):
            await socket.close(1008)
            return
        await _serve(socket, rooms, largest)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        rooms.leave_all()

    routes = [
        Route("/health", health),
        Route("/metadata", metadata),
        Route("/schema", schema),
        Route("/mcp", rpc, methods=["POST"]),
        WebSocketRoute("/ws", connection),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


async def _serve(socket: WebSocket, rooms: _Rooms, largest: int) -> None:
    """Serve one connection from its first frame to its end."""
    from starlette.websockets import WebSocketDisconnect

    await socket.accept()
    name = socket.query_params.get("session_id")
    room = rooms.enter() if name is None else rooms.named.get(name)
    if room is None or room.attached:
        why = (
            f"{rooms.most} sessions are open already; try again later" if name is None else f"no free session {name!r}"
        )
        await _refuse(socket, why, "CAPACITY_REACHED" if name is None else "SESSION_ERROR", 1013)
        return
    room.attached = True
    try:
        while True:
            text = await asyncio.wait_for(_frame(socket), rooms.idle)
            if text is None or len(text) > largest:
                await _refuse(socket, f"a frame is a text of at most {largest} characters", "VALIDATION_ERROR", 1009)
                return
            answer, code = await _answer(text, room, rooms)
            if answer is not None:
                await socket.send_text(json.dumps(answer))
            if code:
                await socket.close(code)
                return
    except (WebSocketDisconnect, RuntimeError):
        pass  # the client is gone
    except TimeoutError:
        await _refuse(socket, f"nothing came for {rooms.idle:g} s", "SESSION_ERROR", 1001)
    finally:
        room.attached = False
        if name is None:
            rooms.leave(room)


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


async def _answer(text: str, room: _Room, rooms: _Rooms) -> tuple[dict[str, Any] | None, int]:
    """Return the answer to a frame, and the code to close the connection with (0 keeps it open)."""
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        return _error("the frame is no JSON", "INVALID_JSON"), 1007
    kind = frame.get("type") if isinstance(frame, dict) else None
    if kind not in ("reset", "step", "state", "close", "mcp"):
        return _error(f"a frame's type is reset, step, state, close or mcp, not {kind!r}", "UNKNOWN_TYPE"), 1008
    data = frame.get("data", {})
    if not isinstance(data, dict) or (kind == "step" and "data" not in frame):
        return _error(f"the data of a {kind} frame must be an object", "VALIDATION_ERROR"), 1008
    if kind == "close":
        return None, 1000
    if kind == "mcp":
        return {"type": "mcp", "data": await _rpc(data, rooms, room)}, 0
    return await _step(kind, data, room, rooms)


async def _step(kind: str, data: dict[str, Any], room: _Room, rooms: _Rooms) -> tuple[dict[str, Any], int]:
    environment = room.environment
    try:
        if kind == "state":
            return {"type": "state", "data": await room.run(environment.state, rooms.seconds)}, 0
        if kind == "reset":
            turn = next(rooms.turns)
            made = await room.run(lambda: environment.reset(data, turn), rooms.seconds)
        else:
            made = await room.run(lambda: environment.step(data), rooms.seconds)
        return {"type": "observation", "data": made}, 0
    except Unfit as problem:
        return _error(str(problem), "VALIDATION_ERROR"), 0
    except TimeoutError:
        return _error(f"the {kind} took more than {rooms.seconds:g} s; the session is closed", "SESSION_ERROR"), 1011
    except Exception as problem:  # the world or the reward failed: the session cannot be relied on any more
        return _error(f"{type(problem).__name__}: {problem}", "EXECUTION_ERROR"), 1011


async def _rpc(message: Any, rooms: _Rooms, room: _Room | None = None) -> dict[str, Any]:
    """Answer a JSON-RPC request of OpenEnv's tool clients: sessions by id, their tools, and calls of them."""
    message = message if isinstance(message, dict) else {}
    number, method, params = message.get("id"), message.get("method"), message.get("params") or {}
    if not isinstance(method, str) or not isinstance(params, dict):
        return failure(number, INVALID, "a request has a method and an object of params")
    if method == "openenv/session/create":
        made = room or rooms.enter()
        if made is None:
            return failure(number, _SERVER, f"{rooms.most} sessions are open already; try again later")
        rooms.named[made.name] = made
        return {"jsonrpc": "2.0", "id": number, "result": {"session_id": made.name}}
    name = str(params.get("session_id", ""))
    room = room or rooms.named.get(name)
    if room is None:
        return failure(number, _PARAMS, "session_id is missing or unknown; create a session first")
    if method == "openenv/session/close":
        rooms.leave(room)
        return {"jsonrpc": "2.0", "id": number, "result": {"session_id": room.name, "closed": True}}
    if method not in ("tools/list", "tools/call"):
        return failure(number, _UNKNOWN, f"no method {method!r}; there are tools/list and tools/call")
    return await _tools(number, method, params, room, rooms)


async def _tools(number: Any, method: str, params: dict[str, Any], room: _Room, rooms: _Rooms) -> dict[str, Any]:
    environment = room.environment
    session = environment.session
    if session is None:
        return failure(number, _SERVER, "there is no episode yet; reset first")
    if method == "tools/list":
        return {"jsonrpc": "2.0", "id": number, "result": {"tools": listed(session)}}
    action = {"tool_name": params.get("name"), "arguments": params.get("arguments") or {}}
    try:
        made = await room.run(lambda: environment.step(action), rooms.seconds)
    except Unfit as problem:
        return failure(number, _PARAMS, str(problem))
    except TimeoutError:
        rooms.leave(room)
        return failure(number, _SERVER, f"the call took more than {rooms.seconds:g} s; the session is closed")
    except Exception as problem:
        rooms.leave(room)
        return failure(number, _SERVER, f"{type(problem).__name__}: {problem}; the session is closed")
    seen = made["observation"]
    content = {"content": [{"type": "text", "text": seen["text"]}], "isError": seen["status"] != "ok"}
    return {"jsonrpc": "2.0", "id": number, "result": content | {"data": seen["result"]}}
