"""More half-sent requests than a server has descriptors: how long a well-behaved client waits, and what the log holds.

``--clients`` connections send half a request each and stay, while another client asks ``/health`` again and again and
has calls run: once where those that are cut off stay away, and once where they come back a second later.
"""

import asyncio
import resource
import tempfile
import time
from argparse import Namespace
from collections import Counter
from typing import Any

import httpx
from common import arguments, report, spread
from soaking.clients import half_open
from soaking.play import Book, play
from soaking.server import Server

AGAIN = {"once": None, "coming back": 1.0}  # seconds until a client that was cut off comes back
_SLOWEST, _LARGEST = 1.0, 1_000_000  # seconds of /health; bytes of log


async def asked(server: Server, given: Namespace, again: float | None) -> dict[str, Any]:
    """Ask beside the half-open clients, each question through a connection of its own."""
    book, seconds, statuses = Book(), list[float](), Counter[str]()
    stay = (60 + given.seconds,) * 2
    beside = asyncio.ensure_future(half_open(server.address, given.clients, book, stay=stay, again=again))
    while sum(book.clients.values()) < given.clients:
        await asyncio.sleep(0.01)
    end = time.monotonic() + given.seconds
    apart = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False, limits=apart) as client:
        while time.monotonic() < end:
            began = time.perf_counter()
            try:
                status = (await client.get("/health")).json()["status"]
            except httpx.TransportError as problem:
                status = repr(problem)
            seconds.append(time.perf_counter() - began)
            statuses[status] += 1
            await asyncio.sleep(0.1)
    await play(server.url, range(4), 4, 2, book)
    beside.cancel()
    await asyncio.gather(beside, return_exceptions=True)
    return {
        "connections opened": dict(book.clients),
        "health": dict(statuses),
        "health seconds": spread(seconds),
        "calls": len(book.seconds),
        "wrong replies": len(book.wrong),
    }


def main() -> None:
    given = arguments(str(__doc__), clients=1100, descriptors=1024, seconds=15)
    with tempfile.TemporaryFile() as log:
        server = Server("--workers", "1", descriptors=given.descriptors, log=log)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # every client here costs one
        try:
            parts = {name: asyncio.run(asked(server, given, again)) for name, again in AGAIN.items()}
        finally:
            code = server.stop()
        size = log.seek(0, 2)
    settings = {"half-open clients": given.clients, "descriptors": given.descriptors, "seconds": given.seconds}
    report("half_open", {**settings, **parts, "log bytes": size, "server exit code": code}, given.json)
    wrong = any(part["wrong replies"] or set(part["health"]) != {"healthy"} for part in parts.values())
    late = any(part["health seconds"]["max"] > _SLOWEST for part in parts.values())
    if wrong or late or code or size > _LARGEST:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
