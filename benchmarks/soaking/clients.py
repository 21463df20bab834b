"""Clients that a server could do without: those that send half a request, and those that send one slowly."""

import asyncio
import contextlib
import itertools
import json
import random
import time

from soaking.play import Book, Line

HEAD = b"POST /episodes/half/act HTTP/1.1\r\nHost: 127.0.0.1\r\n"
HALVES = {
    "nothing": b"",
    "half a head": HEAD,
    "half a body": HEAD + b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{",
}
_RATE, _PAUSE = 5_000, 0.1  # bytes a second, five times what a server asks for, and seconds between two pieces
_PADDING = 30_000  # bytes: six seconds at that rate
Address = tuple[str, int]


async def half_open(
    address: Address, count: int, book: Book, *, stay: tuple[float, float] = (1, 20), again: float | None = 0.0
) -> None:
    """Keep ``count`` connections half open until cancelled.

    Each leaves by itself after ``stay`` seconds, drawn between these. One that left or was cut off is followed by
    another after ``again`` seconds (None: by none).
    """
    chance, kinds = random.Random(1), itertools.cycle(HALVES)

    async def one() -> None:
        while True:
            kind = next(kinds)
            try:
                reader, writer = await asyncio.open_connection(*address)
            except OSError:
                book.clients["half open, not let in"] += 1
                await asyncio.sleep(1)
                continue
            book.clients[f"half open, {kind}"] += 1
            try:
                writer.write(HALVES[kind])
                with contextlib.suppress(TimeoutError, ConnectionError):
                    await asyncio.wait_for(reader.read(), chance.uniform(*stay))
            finally:
                writer.transport.abort() if chance.random() < 0.5 else writer.close()
            if again is None:
                return
            await asyncio.sleep(again)

    await asyncio.gather(*(one() for _ in range(count)))


async def slow(address: Address, count: int, book: Book, over: asyncio.Event) -> None:
    """Keep ``count`` clients until ``over`` that send whole calls, little by little, and want their answers."""
    numbers = itertools.count()

    async def one() -> None:
        while not over.is_set():
            number = next(numbers)
            line = Line(f"slow-{number}", f"slow {number}.", 7_000_000 * (number + 1))
            for _ in range(2):
                await _trickle(address, line, book)
            book.clients["slow"] += 1
            await _post(address, f"/episodes/{line.name}/end", b"")

    await asyncio.gather(*(one() for _ in range(count)))


async def _trickle(address: Address, line: Line, book: Book) -> None:
    request, value, total = line.request()
    request["arguments"]["code"] = f"# {'x' * _PADDING}\n{request['arguments']['code']}"
    try:
        answer = await _post(address, f"/episodes/{line.name}/act", json.dumps(request).encode())
    except (ConnectionError, asyncio.IncompleteReadError) as problem:
        book.wrong.append(f"{line.mark} turn {line.turn}: a slow client was cut off: {problem!r}")
        line.total = None
        return
    line.read(json.loads(answer), value, total, book)


async def _post(address: Address, path: str, body: bytes) -> bytes:
    """Send a request whose body comes at ``_RATE``, and return the body of the answer."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode())
        began, sent = time.monotonic(), 0
        while sent < len(body):
            due = int(_RATE * (time.monotonic() - began + _PAUSE))  # however late this client wakes up
            writer.write(body[sent:due])
            await writer.drain()
            sent = due
            await asyncio.sleep(_PAUSE if sent < len(body) else 0)
        await reader.readuntil(b"\r\n\r\n")
        return await reader.read()
    finally:
        writer.close()
