"""Running an application on a socket until a signal asks it to drain and end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ferrule.serve.access import loopback
from ferrule.serve.host import Managed

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["bind", "serve"]


def bind(host: str, port: int, *, key: str | None) -> socket.socket:
    """Return a listening socket; raises ``ValueError`` for an address beyond this machine without an API key."""
    if key is None and not loopback(host):
        raise ValueError(
            f"--host {host} would let other machines run tools here; set an API key "
            "(--api-key-file or FERRULE_API_KEY), or stay on 127.0.0.1"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as problem:
        raise ValueError(f"--host {host} --port {port} cannot be used: {problem.strerror or problem}") from None


async def serve(
    app: ASGIApp,
    listening: socket.socket,
    *,
    host: Managed | None = None,
    drain_seconds: float = 30.0,
    ready: Callable[[str], None] = print,
) -> None:
    """Serve ``app`` until SIGTERM or SIGINT; ``ready(url)`` is called once, when requests are answered.

    The first signal drains: ``host`` refuses new episodes and the calls in flight may end, for ``drain_seconds`` at
    most. A second signal ends at once. Needs ``pip install "ferrule[serve]"``.
    """
    import uvicorn

    class Server(uvicorn.Server):
        """A server that leaves the signals to us."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_keep_alive=75, timeout_graceful_shutdown=5, lifespan="on"
    )
    server = Server(config)
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def stop() -> None:
        if asked.is_set():
            server.should_exit = server.force_exit = True
        asked.set()

    async def drain() -> None:
        await asked.wait()
        if host is not None:
            await host.drain(drain_seconds)
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    draining = asyncio.ensure_future(drain())
    running = asyncio.ensure_future(server.serve(sockets=[listening]))
    try:
        while not server.started and not running.done():
            await asyncio.sleep(0.01)
        if server.started:
            ready(_url(listening))
        await running
    finally:
        draining.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
