"""Running an application on a socket until a signal asks it to drain and end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ferrule.serve.access import loopback
from ferrule.serve.clients import ClientLimits, Clients
from ferrule.serve.host import Managed
from ferrule.serve.quiet import calm, sparing

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    clients: ClientLimits | None = None,
    ready: Callable[[str], None] = print,
) -> None:
    """Serve ``app`` until SIGTERM or SIGINT; ``ready(url)`` is called once, when requests are answered.

    The first signal drains: ``host`` refuses new episodes and the calls in flight may end, for ``drain_seconds`` at
    most. A second signal ends at once. ``clients`` bounds connections and how slow they may be.
    Needs ``pip install "ferrule[serve]"``.
    """
    asked = asyncio.Event()
    server = _server(calm(_closing(app, asked)), listening, clients or ClientLimits())

    def stop() -> None:
        if asked.is_set():
            server.should_exit = server.force_exit = True
        asked.set()

    async def drain() -> None:
        await asked.wait()
        if host is not None:
            await host.drain(drain_seconds)
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    draining = asyncio.ensure_future(drain())
    running = asyncio.ensure_future(server.serve(sockets=[listening]))
    try:
        with sparing("uvicorn.error", "asyncio"):
            while not server.started and not running.done():
                await asyncio.sleep(0.01)
            if server.started:
                ready(_url(listening))
            await running
    finally:
        draining.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _server(app: ASGIApp, listening: socket.socket, limits: ClientLimits) -> uvicorn.Server:
    """Return a server that leaves the signals to us and accepts connections within limits."""
    import uvicorn

    class Server(uvicorn.Server):
        """A server whose connections are accepted by ``Clients``."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=[])
            kind, loop = self.config.http_protocol_class, asyncio.get_running_loop()

            def make() -> asyncio.Protocol:
                return kind(self.config, self.server_state, self.lifespan.state, loop)  # type: ignore[call-arg]

            self.accepting = asyncio.ensure_future(Clients(make, limits).accept(listening))

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            self.accepting.cancel()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        http="h11",  # the one of uvicorn's readers that bounds the head of a request
        ws_max_size=4 << 20,
        ws_max_queue=4,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
        lifespan="on",
    )
    return Server(config)


def _closing(app: ASGIApp, asked: asyncio.Event) -> ASGIApp:
    """Return the application whose answers end their connections once the server was asked to end.

    A client then sends its next request on a new connection and learns for certain whether it was taken.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def ending(message: Message) -> None:
            if asked.is_set() and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await app(scope, receive, ending)

    return answer


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
