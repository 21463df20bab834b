"""A tool server under load and murder: episodes whose calls build on each other, while what they rest on is killed.

Workers, the zygotes that interpreters are forked from, and the helpers that set up branches are killed in turn. Beside
the episodes, half of which are branched in the middle, clients that send half a request and clients that send a whole
one slowly talk to the same server. Nothing may be lost without being said, no reply may belong to another call, no
process may outlive who started it, and memory and descriptors come back to where they were.

``--minutes`` lets it run by time, ``--episodes`` by number. Loopback only.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import resource
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from common import report
from soaking.clients import half_open, slow
from soaking.play import Book, Called, nothing, play
from soaking.server import Server, keep_orphans

KINDS = ("worker", "zygote", "helper")
_GUARD = 900.0  # seconds beyond the time asked for after which a run counts as stuck
_GROWTH = 10.0  # percent that memory may have grown by


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    numbers = {"calls": 6, "concurrency": 96, "workers": 4, "half-open": 300, "slow": 16}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=0.0, help="play new episodes for so long")
    length.add_argument("--episodes", type=int, default=512, help="play so many, default 512")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two kills, default 3")
    parser.add_argument(
        "--kills",
        type=int,
        default=0,
        help="kill so many, spread evenly over the calls of --episodes, whatever the time",
    )
    return parser.parse_args()


class Killer:
    """Kills a worker, a zygote and a helper in turn; a worker only when all serve, so that each kill is one restart."""

    def __init__(self, server: Server, workers: int, book: Book) -> None:
        self._server, self._workers, self._book = server, workers, book
        self._chance, self._kinds, self._one = random.Random(0), itertools.cycle(KINDS), asyncio.Lock()

    async def kill(self) -> None:
        """Kill the next one, once there is one."""
        async with self._one, httpx.AsyncClient(base_url=self._server.url, timeout=60, trust_env=False) as client:
            kind = next(self._kinds)
            victims: dict[str, Callable[[], list[int]]] = {
                "worker": self._server.workers, "zygote": self._server.zygotes, "helper": self._server.helpers,
            }  # fmt: skip
            await self._serving(client)
            self._book.memory_peak = max(self._book.memory_peak, self._server.memory())
            while not (pids := sorted(victims[kind]())):
                await asyncio.sleep(0.01)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._chance.choice(pids), signal.SIGKILL)
                self._book.kills[kind] += 1
            await self._serving(client)

    async def _serving(self, client: httpx.AsyncClient) -> None:
        while True:
            health = (await client.get("/health")).json()
            if (health["workers"], health["worker_restarts"]) == (self._workers, self._book.kills["worker"]):
                return
            await asyncio.sleep(0.05)

    async def often(self, every: float) -> None:
        """Kill until cancelled."""
        while True:
            await asyncio.sleep(every)
            await self.kill()

    def spread(self, kills: int, calls: int) -> Called:
        """Return what kills after every ``calls / (kills + 1)`` calls; the run cannot end before all are dead."""
        count = itertools.count(1)
        due = {calls * (k + 1) // (kills + 1) for k in range(kills)}

        async def called() -> None:
            if next(count) in due:
                await self.kill()

        return called


def numbers(minutes: float, episodes: int) -> Iterator[int]:
    """Give the numbers of the episodes, by time or so many."""
    end = time.monotonic() + 60 * minutes
    for index in itertools.count():
        if (time.monotonic() >= end) if minutes else (index >= episodes):
            return
        yield index


async def settled(server: Server, workers: int) -> tuple[int, dict[str, int]]:
    """Wait until all workers are back and memory stands still; returns it (bytes) and the open descriptors."""
    last = 0
    async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
        for _ in range(60):
            await asyncio.sleep(0.5)
            health = (await client.get("/health")).json()
            size = server.memory()
            ready = health["workers"] == workers and health["live_episodes"] == 0
            if ready and abs(size - last) < 1 << 20:
                break
            last = size
        return server.memory(), server.descriptors()


async def warm_up(server: Server, first: int, count: int, given: argparse.Namespace, book: Book) -> None:
    """Let every worker play and branch, so that replaced ones are as warm as those that were there before."""
    await play(server.url, range(first, first + count), 4, 4 * given.workers, book)


async def murdered(server: Server, given: argparse.Namespace, book: Book) -> float:
    """Play under murder, beside the clients that do not do what they should; returns the seconds."""
    killer, over = Killer(server, given.workers, book), asyncio.Event()
    slow_ones = asyncio.ensure_future(slow(server.address, given.slow, book, over))
    beside, called = [half_open(server.address, given.half_open, book)], nothing
    if given.kills and not given.minutes:
        # Branches make it more calls, not fewer, so that all kills come due.
        called = killer.spread(given.kills, given.episodes * given.calls)
    else:
        beside.append(killer.often(given.every))
    tasks = [asyncio.ensure_future(work) for work in beside]
    try:
        order = numbers(given.minutes, given.episodes)
        return await play(server.url, order, given.calls, given.concurrency, book, called)
    finally:
        for task in tasks:
            task.cancel()
        over.set()
        ended = await asyncio.gather(slow_ones, *tasks, return_exceptions=True)
        book.wrong += [f"what ran beside broke: {problem!r}" for problem in ended if isinstance(problem, Exception)]


async def soak(server: Server, given: argparse.Namespace) -> dict[str, Any]:
    """Warm up, note memory and descriptors, run under murder, and note them again."""
    warm, book = Book(), Book()
    await play(server.url, range(1_000_000, 1_000_000 + 2 * given.concurrency), given.calls, given.concurrency, warm)
    for first in (2_000_000, 3_000_000):
        await warm_up(server, first, 8 * given.workers, given, warm)
    before, opened = await settled(server, given.workers)
    took = await murdered(server, given, book)
    for first in (4_000_000, 5_000_000):
        await warm_up(server, first, 8 * given.workers, given, warm)
    after, left = await settled(server, given.workers)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
        restarts = (await client.get("/health")).json()["worker_restarts"]
    return {
        **{
            name.replace("_", " "): value
            for name, value in vars(given).items()
            if name not in ("json", "episodes", "calls")
        },
        **told(book, took),
        "worker restarts": restarts,
        "warm-up wrong": len(warm.wrong),
        "orphans left": server.orphans(),
        "descriptors before": opened,
        "descriptors after": left,
        "memory MiB before": round(before / (1 << 20), 1),
        "memory MiB peak": round(book.memory_peak / (1 << 20), 1),
        "memory MiB after": round(after / (1 << 20), 1),
        "memory change %": round(100 * (after / before - 1), 2),
    }


def told(book: Book, took: float) -> dict[str, Any]:
    """Return what the book says of a run of ``took`` seconds."""
    seconds, calls = sorted(book.seconds), len(book.seconds)
    return {
        "episodes": book.begun,
        "branches": book.branches,
        "calls": calls,
        "kills": dict(book.kills),
        "clients": dict(book.clients),
        "seconds": round(took, 2),
        "calls per second": round(calls / took, 1),
        "call ms p50": round(1000 * statistics.median(seconds), 2),
        "call ms p99": round(1000 * seconds[int(0.99 * (calls - 1))], 2),
        "statuses": dict(book.statuses),
        "episodes ended": dict(book.ends),
        "lost episodes": book.begun - sum(book.ends.values()),
        "wrong replies": len(book.wrong),
        "first wrong": book.wrong[:5],
    }


def problems(figures: dict[str, Any]) -> list[str]:
    """Return the figures that are not as promised."""
    zero = ("lost episodes", "wrong replies", "warm-up wrong", "orphans left", "server exit code")
    bad = [name for name in zero if figures[name]]
    if figures["worker restarts"] != figures["kills"].get("worker", 0):
        bad.append("worker restarts")
    if figures["memory change %"] > _GROWTH:
        bad.append("memory change %")
    if figures["descriptors after"] != figures["descriptors before"]:
        bad.append("descriptors after")
    return bad


def main() -> None:
    given = options()
    keep_orphans()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    bounds = ("--workers", str(given.workers), "--seconds", "20", "--max-episodes", "4096")
    server = Server(*bounds, tools=("python", "calculator"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # every client here costs one
    try:
        figures = asyncio.run(asyncio.wait_for(soak(server, given), 60 * given.minutes + _GUARD))
    finally:
        code = server.stop()
    figures["server exit code"] = code
    report("soak", figures, given.json)
    bad = problems(figures)
    print(json.dumps({"passed": not bad, "not as promised": bad}))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
