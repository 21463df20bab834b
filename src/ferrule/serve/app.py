"""The HTTP faces of a host: the plain form, the batch form of raw model texts, health and metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ferrule.core.records import Call, Observation
from ferrule.serve.access import AccessControl
from ferrule.serve.batch import BadBatch, observe, read_batch
from ferrule.serve.host import Host
from ferrule.serve.metrics import Counted
from ferrule.serve.wire import host_reason, http_body

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

__all__ = ["tools_app"]

_BUSY = {
    "queue_full": (429, "1"),
    "too_many_episodes": (429, "5"),
    "draining": (503, "10"),
    "worker_unavailable": (503, "2"),
}
_LONGEST_ID = 256


class _Bad(Exception):
    """A request that cannot be read; the message says why."""


def tools_app(
    host: Host,
    *,
    key: str | None = None,
    max_body: int = 8 << 20,
    done_if_invalid: bool = False,
    routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """Return the application that serves ``host``; ``routes`` are further faces of it.

    ``key`` is the API key that every route but ``/health`` asks for, ``max_body`` the largest request (bytes).
    ``done_if_invalid`` ends a trajectory of the batch form whose text no tool can read. Routes:
    ``POST /get_observation``, ``POST /episodes/{id}/act``, ``/end`` and ``/fork``, ``GET /tools``, ``/health`` and
    ``/metrics``.
    Needs ``pip install "ferrule[serve]"``.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.routing import Route

    handlers = _Handlers(host if isinstance(host, Counted) else Counted(host), done_if_invalid)
    built_in = [
        Route("/get_observation", handlers.batch, methods=["POST"]),
        Route("/episodes/{id:path}/act", handlers.act, methods=["POST"]),
        Route("/episodes/{id:path}/end", handlers.end, methods=["POST"]),
        Route("/episodes/{id:path}/fork", handlers.fork, methods=["POST"]),
        Route("/tools", handlers.tools, methods=["GET"]),
        Route("/health", handlers.health, methods=["GET"]),
        Route("/metrics", handlers.metrics, methods=["GET"]),
    ]
    return Starlette(
        routes=[*built_in, *routes],
        middleware=[Middleware(AccessControl, key=key, max_body=max_body)],
        exception_handlers={_Bad: _bad, HTTPException: _failed},
    )


async def _bad(request: Request, problem: Exception) -> Response:
    return _json({"error": str(problem)}, 400)


async def _failed(request: Request, problem: Exception) -> Response:
    return _json({"error": str(getattr(problem, "detail", problem))}, getattr(problem, "status_code", 500))


def _json(payload: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    from starlette.responses import Response

    return Response(http_body(payload), status, headers, media_type="application/json")


async def _body(request: Request) -> Any:
    try:
        return json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError) as problem:
        raise _Bad(f"the body is not JSON: {problem}") from None


def _id(request: Request) -> str:
    name = str(request.path_params["id"])
    if not 0 < len(name) <= _LONGEST_ID:
        raise _Bad(f"an episode id has 1 to {_LONGEST_ID} characters, this one {len(name)}")
    return name


class _Handlers:
    """The handlers, around one host."""

    def __init__(self, host: Counted, done_if_invalid: bool) -> None:
        self._host = host
        self._done_if_invalid = done_if_invalid
        self._began = time.monotonic()

    async def batch(self, request: Request) -> Response:
        try:
            asked = read_batch(await _body(request))
        except BadBatch as problem:
            raise _Bad(str(problem)) from None
        return _json(await observe(self._host, asked, done_if_invalid=self._done_if_invalid))

    async def act(self, request: Request) -> Response:
        name, body = _id(request), await _body(request)
        if not isinstance(body, dict) or not isinstance(body.get("name"), str):
            raise _Bad("the body should be an object with name (a text), arguments (an object), id and seconds")
        seconds = body.get("seconds")
        if seconds is not None and (not isinstance(seconds, int | float) or not 0 < seconds < float("inf")):
            raise _Bad(f"seconds is {seconds!r}; it should be a number above 0")
        if not isinstance(body.get("arguments", {}), dict):
            raise _Bad("arguments should be an object of named values")
        call = Call(body["name"], body.get("arguments", {}), str(body.get("id") or ""))
        return _observed(await self._host.act(name, call, seconds))

    async def end(self, request: Request) -> Response:
        await self._host.end(_id(request))
        return _json({"ended": True})

    async def fork(self, request: Request) -> Response:
        return _observed(await self._host.fork(_id(request)))

    async def tools(self, request: Request) -> Response:
        return _json({"tools": self._host.tools})

    async def health(self, request: Request) -> Response:
        figures = self._host.figures()
        draining, problems = bool(figures["draining"]), self._host.problems()
        return _json(
            {
                "status": "draining" if draining else "degraded" if problems else "healthy",
                "problems": problems,
                "tools": [tool.name for tool in self._host.tools],
                "live_episodes": int(figures["live"]),
                "running_calls": int(figures["running"]),
                "queue_depth": int(figures["waiting"]),
                "workers": int(figures["workers"]),
                "worker_restarts": int(figures["restarts"]),
                "uptime_seconds": round(time.monotonic() - self._began, 3),
            },
            503 if draining else 200,
        )

    async def metrics(self, request: Request) -> Response:
        from starlette.responses import Response

        return Response(self._host.text(), media_type="text/plain; version=0.0.4")


def _observed(observation: Observation) -> Response:
    """Return an observation; a call refused by back-pressure carries a status that says when to try again."""
    status, pause = _BUSY.get(host_reason(observation), (200, ""))
    return _json(observation, status, {"retry-after": pause} if pause else None)
