"""Clients that do not finish what they begin: none of them keeps the others from being served."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from ferrule.serve.clients import ClientLimits, Clients
from ferrule.serve.quiet import Sparse
from ferrule.serve.run import bind, serve

HEAD = b"POST /length HTTP/1.1\r\nHost: 127.0.0.1\r\n"
WHOLE = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
Address = tuple[str, int]


async def _health(request: Request) -> Response:
    return PlainTextResponse("well")


async def _length(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def _much(request: Request) -> Response:
    return PlainTextResponse(b"x" * (32 << 20))


async def _late(request: Request) -> Response:
    await asyncio.sleep(1.5)
    return PlainTextResponse("late")


async def _socket(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close(1013)


APP = Starlette(
    routes=[
        WebSocketRoute("/socket", _socket),
        Route("/health", _health),
        Route("/length", _length, methods=["POST"]),
        Route("/much", _much),
        Route("/late", _late),
    ]
)


def play(check: Callable[[Address], Awaitable[None]], limits: ClientLimits) -> None:
    """Run a check against a server in this loop, which a signal ends as it does on a command line."""

    async def work() -> None:
        listening = bind("127.0.0.1", 0, key=None)
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        running = asyncio.ensure_future(serve(APP, listening, clients=limits, ready=ready.set_result))
        await ready
        try:
            await check(listening.getsockname())
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await running

    asyncio.run(asyncio.wait_for(work(), 120))


async def opened(address: Address, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def ended(reader: asyncio.StreamReader) -> bool:
    """Say whether the server ends a connection  without an answer."""
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(reader.read(), 30) == b""
    return True


async def asked(address: Address, path: str = "/health") -> str:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return (await client.get(f"http://{address[0]}:{address[1]}{path}")).text


@pytest.fixture
def log() -> Iterator[list[logging.LogRecord]]:
    """What the server writes to its log."""
    records: list[logging.LogRecord] = []

    def note(record: logging.LogRecord) -> bool:
        records.append(record)
        return True

    logger = logging.getLogger("uvicorn.error")
    logger.addFilter(note)  # handlers are replaced when a server is made, filters are not
    yield records
    logger.removeFilter(note)


def said(log: list[logging.LogRecord]) -> str:
    return "\n".join(record.getMessage() for record in log)


@pytest.mark.parametrize("sent", [b"", b"POST /le", HEAD], ids=["nothing", "a word", "no end of the head"])
def test_a_head_that_does_not_end_is_cut_off(sent: bytes, log: list[logging.LogRecord]) -> None:
    async def check(address: Address) -> None:
        reader, writer = await opened(address, sent)
        assert await ended(reader)
        writer.close()

    play(check, ClientLimits(head_seconds=0.3))
    assert "no whole head of a request in 0.3 s" in said(log)


def test_a_head_that_comes_drop_by_drop_is_cut_off() -> None:
    async def check(address: Address) -> None:
        reader, writer = await opened(address, HEAD)

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"X: y\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.05)

        dripping = asyncio.ensure_future(drip())
        assert await ended(reader)
        dripping.cancel()
        writer.close()

    play(check, ClientLimits(head_seconds=0.5))


def test_a_body_that_comes_too_slowly_is_cut_off(log: list[logging.LogRecord]) -> None:
    async def check(address: Address) -> None:
        reader, writer = await opened(address, HEAD + b"Content-Length: 100000\r\n\r\nabc")
        assert await ended(reader)
        writer.close()

    play(check, ClientLimits(body_seconds=0.3))
    assert "less than 1024 bytes a second" in said(log)


def test_a_body_in_time_is_taken_however_long_it_takes() -> None:
    async def check(address: Address) -> None:
        reader, writer = await opened(address, HEAD + b"Content-Length: 4096\r\nConnection: close\r\n\r\n")
        for _ in range(16):  # two seconds at 2,048 bytes a second
            writer.write(b"x" * 256)
            await writer.drain()
            await asyncio.sleep(0.125)
        assert (await asyncio.wait_for(reader.read(), 30)).endswith(b"\r\n\r\n4096")
        writer.close()

    play(check, ClientLimits(head_seconds=0.5, body_seconds=0.5, body_rate=512))


def test_an_answer_that_nobody_reads_is_cut_off(log: list[logging.LogRecord]) -> None:
    async def check(address: Address) -> None:
        with socket.create_connection(address) as client:
            client.sendall(WHOLE.replace(b"health", b"much"))
            for _ in range(600):
                await asyncio.sleep(0.1)
                if "nothing of the answer was read" in said(log):
                    return
            raise AssertionError("it is still open")

    play(check, ClientLimits(answer_seconds=0.5))


def test_a_connection_that_was_answered_may_idle_and_go_on() -> None:
    async def check(address: Address) -> None:
        reader, writer = await opened(address, WHOLE)
        for _ in range(2):
            assert (await reader.readuntil(b"well")).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(1.5)  # five times what a head may take
            writer.write(WHOLE)
        assert (await reader.readuntil(b"well")).startswith(b"HTTP/1.1 200")
        writer.close()

    play(check, ClientLimits(head_seconds=0.3))


@pytest.mark.parametrize(
    "sent", [b"", HEAD, HEAD + b"Content-Length: 9\r\n\r\nabc"], ids=["nothing", "half a head", "half a body"]
)
def test_half_sent_requests_make_room_for_whole_ones(sent: bytes) -> None:
    async def check(address: Address) -> None:
        half = [await opened(address, sent) for _ in range(24)]
        await asyncio.sleep(0.1)
        assert await asked(address) == "well"
        gone = await asyncio.gather(*(ended(reader) for reader, _ in half[:16]))
        assert all(gone), "the oldest go first"
        for _, writer in half:
            writer.close()

    play(check, ClientLimits(connections=8, head_seconds=60, body_seconds=60))


def test_what_was_sent_and_not_read_yet_is_no_half_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a loaded machine a whole request may lie unread for longer than a client is left unjudged."""
    make_room, sent = Clients._make_room, list[str]()

    async def check(address: Address) -> None:
        reader, writer = await opened(address, b"")

        def late(clients: Clients, why: str) -> bool:
            if not sent:
                writer.write(WHOLE)
                time.sleep(0.5)
            sent.append(why)
            return make_room(clients, why)

        monkeypatch.setattr(Clients, "_make_room", late)
        assert (await asyncio.wait_for(reader.readuntil(b"well"), 30)).startswith(b"HTTP/1.1 200")
        writer.close()

    play(check, ClientLimits(connections=1))
    assert sent


def test_a_body_that_came_and_was_not_read_yet_is_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    forget = Clients._forget

    async def check(address: Address) -> None:
        reader, writer = await opened(address, HEAD + b"Content-Length: 4096\r\nConnection: close\r\n\r\n")
        rest = [b"x" * 4096]

        def late(clients: Clients) -> None:  # it comes right before the server looks who is slow
            if clients._open and rest:
                writer.write(rest.pop())
            forget(clients)

        monkeypatch.setattr(Clients, "_forget", late)
        assert (await asyncio.wait_for(reader.read(), 30)).endswith(b"\r\n\r\n4096")
        assert not rest
        writer.close()

    play(check, ClientLimits(body_seconds=0.2))


def test_an_idle_connection_stays_while_new_ones_say_nothing() -> None:
    """They become half-open ones a quarter of a second later, and these go first."""

    async def check(address: Address) -> None:
        reader, writer = await opened(address, WHOLE)
        await reader.readuntil(b"well")
        half = [await opened(address, b"") for _ in range(3)]
        for _ in range(10):
            await asyncio.sleep(0.1)
            writer.write(WHOLE)
            assert (await asyncio.wait_for(reader.readuntil(b"well"), 30)).startswith(b"HTTP/1.1 200")
        assert await asked(address) == "well"
        for _, other in [*half, (reader, writer)]:
            other.close()

    play(check, ClientLimits(connections=4, head_seconds=60))


def test_bodies_that_do_not_come_go_before_a_connection_that_idles() -> None:
    async def check(address: Address) -> None:
        half = [await opened(address, HEAD + b"Content-Length: 9\r\n\r\nabc") for _ in range(7)]
        await asyncio.sleep(1.2)
        reader, writer = await opened(address, WHOLE)
        for _ in range(5):
            assert (await asyncio.wait_for(reader.readuntil(b"well"), 30)).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.3)
            writer.write(WHOLE)
        for _, other in [*half, (reader, writer)]:
            other.close()

    play(check, ClientLimits(connections=8, body_seconds=60))


def test_web_sockets_that_wait_for_a_goodbye_make_room() -> None:
    async def check(address: Address) -> None:
        greeted = [await opened(address, UPGRADE) for _ in range(4)]
        for reader, _ in greeted:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        assert await asked(address) == "well"
        for _, writer in greeted:
            writer.close()

    play(check, ClientLimits(connections=4))


def test_requests_at_work_are_never_closed_for_others() -> None:
    """Accepting stops while all four connections are at work, and goes on afterwards."""

    async def check(address: Address) -> None:
        answers = await asyncio.gather(
            *(asked(address, "/late") for _ in range(4)), *(asked(address) for _ in range(12))
        )
        assert answers == ["late"] * 4 + ["well"] * 12

    play(check, ClientLimits(connections=4))


def test_a_client_that_leaves_is_one_line_of_the_log(log: list[logging.LogRecord]) -> None:
    async def check(address: Address) -> None:
        _, writer = await opened(address, HEAD + b"Content-Length: 9\r\n\r\nabc")
        await asyncio.sleep(0.2)
        writer.close()
        await writer.wait_closed()
        while "left in the middle" not in said(log):
            await asyncio.sleep(0.02)

    play(check, ClientLimits())
    assert [record.exc_info for record in log if "left" in record.getMessage()] == [None]
    assert "Exception" not in said(log)


def test_bounds_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="head_seconds is 0; it must be above 0"):
        ClientLimits(head_seconds=0)


def test_a_log_says_how_many_lines_were_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lines at once and four a second after that: a quarter of a second makes room for one."""
    now = iter([0.0, *[10.0] * 5, 10.25])
    monkeypatch.setattr("ferrule.serve.quiet.time", SimpleNamespace(monotonic=lambda: next(now)))
    sparse = Sparse(burst=2, rate=4)
    records = [logging.makeLogRecord({"msg": "line %d", "args": (i,)}) for i in range(6)]
    lines = [record.getMessage() for record in records if sparse.filter(record)]
    assert lines == ["line 0", "line 1", "line 5 (3 lines left out before this one)"]


def test_half_open_clients_beyond_the_descriptors_leave_a_server_reachable(tmp_path: Path) -> None:
    """300 half-sent requests at 256 descriptors: the next client is answered and the log stays small."""
    log = tmp_path / "log"
    command = [sys.executable, "-m", "ferrule", "serve", "tools", "calculator", "--workers", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "FERRULE_API_KEY"}
    with log.open("wb") as stderr:
        server = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)),
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(server)
        stack.callback(server.kill)
        assert server.stdout is not None
        url = server.stdout.readline().decode().strip()
        host, _, port = url.removeprefix("http://").partition(":")
        for _ in range(300):
            client = stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            client.sendall(HEAD)
        with httpx.Client(base_url=url, trust_env=False, timeout=10) as well:
            assert well.get("/health").json()["status"] == "healthy"
            said = well.post("/episodes/a/act", json={"name": "calculator", "arguments": {"expression": "6*7"}})
            assert said.json()["text"] == "42"
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    assert log.stat().st_size < 20_000
    assert "Traceback" not in log.read_text()
