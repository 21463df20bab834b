"""A world behind the OpenEnv protocol (https://github.com/huggingface/OpenEnv), as a Starlette application.

Each WebSocket connection to ``/ws`` is one environment. A frame is ``{"type": ..., "data": ...}`` with the type
``reset``, ``step``, ``state`` or ``close``; the answer has the type ``observation``, ``state`` or ``error``. A frame
that cannot be read and a step that takes too long close the connection: a late answer is never taken for another's.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ferrule import __version__
from ferrule.core.flows import Reward, World
from ferrule.rewards.outcome import outcome
from ferrule.serve.mcp_rpc import INVALID, PARSE, failure, near
from ferrule.serve.openenv_connections import Connections
from ferrule.serve.openenv_episode import ACTION, Environment
from ferrule.serve.openenv_frames import answer_rpc, serve_socket

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

__all__ = ["openenv_app"]

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
    from starlette.routing import Route, WebSocketRoute

    drawn = world.tasks(split, tasks, seed=seed)
    if not drawn:
        raise ValueError(f"world {world.name!r} has no tasks of split {split!r} to serve")
    connections = Connections(lambda: Environment(world, drawn, reward, steps=steps), max_sessions, seconds, idle)
    endpoints = _Endpoints(
        world.name, f"{len(drawn)} tasks of the world {world.name} ({split})", connections, largest, origins
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        connections.close_all()

    routes = [
        Route("/health", endpoints.health),
        Route("/metadata", endpoints.metadata),
        Route("/schema", endpoints.schema),
        Route("/mcp", endpoints.rpc, methods=["POST"]),
        WebSocketRoute("/ws", endpoints.socket),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


@dataclass
class _Endpoints:
    """The handlers of an application."""

    name: str
    description: str
    connections: Connections
    largest: int
    origins: Sequence[str]

    async def health(self, request: Request) -> Response:
        return _json({"status": "healthy"})

    async def metadata(self, request: Request) -> Response:
        return _json({"name": self.name, "description": self.description, "version": __version__})

    async def schema(self, request: Request) -> Response:
        return _json({"action": ACTION, "observation": _OBSERVED, "state": _STATE})

    async def rpc(self, request: Request) -> Response:
        if not near(request.headers.get("origin"), self.origins):
            return _json(failure(None, INVALID, "this origin may not speak to the server"), 403)
        body = bytearray()
        async for block in request.stream():
            body += block
            if len(body) > self.largest:
                return _json(failure(None, INVALID, f"the request has more than {self.largest} bytes"), 413)
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            return _json(failure(None, PARSE, "the request is not JSON"), 400)
        return _json(await answer_rpc(message, self.connections))

    async def socket(self, socket: WebSocket) -> None:
        if not near(socket.headers.get("origin"), self.origins):
            await socket.close(1008)
            return
        await serve_socket(socket, self.connections, self.largest)


def _json(content: dict[str, Any], status: int = 200) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status)
