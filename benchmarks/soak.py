"""A tool server under load and murder: episodes whose calls build on each other, while workers are killed.

Every episode keeps a running total in the server that starts at a number of its own; every reply must be the total that
its own calls make. A reply that belongs to another call, another episode or lost state cannot be equal to it by
accident. Loopback only; bounded by the number of calls and by ``--minutes``.
"""

import argparse
import asyncio
import contextlib
import ctypes
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from common import report

from ferrule.serve.metrics import tree_memory
from ferrule.serve.workers import resident

_CHILD_SUBREAPER = 36  # prctl: orphans below this process become its children, so that none can hide
CLIENTS = 8  # connection pools: the cost of one pool grows with the square of its waiting requests


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    for name, default in {"episodes": 512, "calls": 5, "concurrency": 128, "workers": 4}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--every", type=float, default=3.0, help="seconds between two kills, default 3")
    when.add_argument(
        "--kills", type=int, default=0, help="kill so many, spread evenly over the calls, whatever the time"
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="longest run, default 5")
    return parser.parse_args()


class Server:
    """The server process, started as a user would start it."""

    def __init__(self, workers: int, seconds: float = 20.0) -> None:
        command = [sys.executable, "-m", "ferrule", "serve", "tools", "python", "calculator", "--port", "0"]
        command += ["--workers", str(workers), "--seconds", str(seconds), "--max-episodes", "4096"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        if not self.url.startswith("http://127.0.0.1:"):
            raise RuntimeError("the server did not start")

    def workers(self) -> list[int]:
        """Return the process ids of the live workers."""
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid and b"ferrule.serve.worker" in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
        return found

    def memory(self) -> int:
        """Return the resident memory of everything that was started here, orphans of killed workers included."""
        return tree_memory(os.getpid()) - resident(os.getpid())

    def orphans(self) -> int:
        """Return how many processes outlived the worker that had started them."""
        found = 0
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, IndexError, ValueError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                mine = int(parent) == os.getpid() and int(folder.name) != self.process.pid
                found += mine and state not in "ZX"
        return found

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


class Book:
    """What happened to the calls and episodes."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.seconds: list[float] = []
        self.kills = 0
        self.memory_peak = 0


Called = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """Do nothing after a call."""


async def episode(client: httpx.AsyncClient, index: int, calls: int, book: Book, called: Called) -> None:
    """Play one episode: each call adds a number to the total that the calls before it made."""
    name, base = f"soak-{index}", 1_000_000 * (index + 1)
    total: int | None = None
    end = "ok"
    for turn in range(calls):
        # Without a total the state is fresh (first call, or state was lost and said so).
        fresh = f"total = {base} if 'total' not in globals() else -1"  # old state must not come back
        code = fresh if total is None else f"total += {turn + 1}"
        expected = base if total is None else total + turn + 1
        began = time.perf_counter()
        said = await client.post(
            f"/episodes/{name}/act",
            json={
                "name": "python",
                "arguments": {"code": f"{code}\n({index}, {turn}, total)"},
                "id": f"{index}/{turn}",
            },
        )
        book.seconds.append(time.perf_counter() - began)
        seen = said.json()
        reason = (seen.get("data") or {}).get("reason") or ""
        book.statuses[f"{seen['status']} {reason}".strip()] += 1
        if seen["status"] == "ok":
            if seen["text"] != f"({index}, {turn}, {expected})":
                book.wrong.append(f"episode {index} turn {turn}: wanted total {expected}, got {seen['text']!r}")
            total = expected
        elif reason == "worker_died":
            total, end = None, "state lost, and said"
        elif reason == "worker_unavailable":  # the call was not run; there was no state to lose
            end = "a call without a worker, and said"
        else:
            book.wrong.append(f"episode {index} turn {turn}: {seen['status']} {seen['text']!r}")
        await called()
    await client.post(f"/episodes/{name}/end")
    book.ends[end] += 1


async def play(
    server: Server, first: int, count: int, calls: int, concurrency: int, book: Book, called: Called = nothing
) -> float:
    """Play episodes, ``concurrency`` at a time, with ``called`` after every call; returns the seconds."""
    order = iter(range(first, first + count))

    async def work(client: httpx.AsyncClient) -> None:
        for index in order:
            await episode(client, index, calls, book, called)

    began = time.perf_counter()
    async with contextlib.AsyncExitStack() as stack:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits, trust_env=False)
            )
            for _ in range(min(CLIENTS, concurrency))
        ]
        await asyncio.gather(*(work(clients[i % len(clients)]) for i in range(concurrency)))
    return time.perf_counter() - began


async def murder(server: Server, every: float, book: Book) -> None:
    """Kill a worker from time to time, and note the largest memory."""
    chance = random.Random(0)
    while True:
        await asyncio.sleep(every)
        book.memory_peak = max(book.memory_peak, server.memory())
        if victims := sorted(server.workers()):
            os.kill(chance.choice(victims), signal.SIGKILL)
            book.kills += 1


def spread(server: Server, workers: int, kills: int, calls: int, book: Book) -> Called:
    """Return what kills a worker after every ``calls / (kills + 1)`` calls; the run cannot end before all are dead.

    Only a worker that serves is killed, and the next not before its replacement serves: each kill is one restart.
    """
    chance, at_once, count = random.Random(0), asyncio.Lock(), itertools.count(1)
    due = {calls * (k + 1) // (kills + 1) for k in range(kills)}

    async def serving(client: httpx.AsyncClient) -> None:
        while True:
            health = (await client.get("/health")).json()
            if (health["workers"], health["worker_restarts"]) == (workers, book.kills):
                return
            await asyncio.sleep(0.05)

    async def called() -> None:
        if next(count) not in due:
            return
        async with at_once, httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
            await serving(client)
            book.memory_peak = max(book.memory_peak, server.memory())
            os.kill(chance.choice(sorted(server.workers())), signal.SIGKILL)
            book.kills += 1
            await serving(client)

    return called


async def settled(server: Server, workers: int) -> int:
    """Wait until all workers are back and memory stands still; returns it (bytes)."""
    last = 0
    async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
        for _ in range(40):
            await asyncio.sleep(0.5)
            health = (await client.get("/health")).json()
            size = server.memory()
            ready = health["workers"] == workers and health["live_episodes"] == 0
            if ready and abs(size - last) < 1 << 20:
                break
            last = size
    return server.memory()


async def soak(
    server: Server, episodes: int, calls: int, concurrency: int, workers: int, every: float, kills: int
) -> dict[str, Any]:
    """Warm up, note the memory, run under murder, and note it again."""
    warm = Book()
    await play(server, 1_000_000, max(2 * concurrency, 8 * workers), calls, concurrency, warm)
    for _ in range(2):  # replaced workers must be as warm as those that were there before
        await play(server, 2_000_000, 16 * workers, 2, 4 * workers, warm)
    before = await settled(server, workers)
    book = Book()
    if kills:
        called = spread(server, workers, kills, episodes * calls, book)
        took = await play(server, 0, episodes, calls, concurrency, book, called)
    else:
        killer = asyncio.ensure_future(murder(server, every, book))
        try:
            took = await play(server, 0, episodes, calls, concurrency, book)
        finally:
            killer.cancel()
    await play(server, 3_000_000, 16 * workers, 2, 4 * workers, warm)
    after = await settled(server, workers)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
        restarts = (await client.get("/health")).json()["worker_restarts"]
    seconds = sorted(book.seconds)
    return {
        "episodes": episodes,
        "calls": sum(book.statuses.values()),
        "concurrency": concurrency,
        "workers": workers,
        "kills": book.kills,
        "restarts": restarts,
        "seconds": round(took, 2),
        "calls per second": round(sum(book.statuses.values()) / took, 1),
        "call ms p50": round(1000 * statistics.median(seconds), 2),
        "call ms p99": round(1000 * seconds[int(0.99 * (len(seconds) - 1))], 2),
        "statuses": dict(book.statuses),
        "episodes ended": dict(book.ends),
        "lost episodes": episodes - sum(book.ends.values()),
        "wrong replies": len(book.wrong),
        "first wrong": book.wrong[:5],
        "warm-up wrong": len(warm.wrong),
        "orphans left": server.orphans(),
        "memory MiB before": round(before / (1 << 20), 1),
        "memory MiB peak": round(book.memory_peak / (1 << 20), 1),
        "memory MiB after": round(after / (1 << 20), 1),
        "memory change %": round(100 * (after / before - 1), 2),
    }


def main() -> None:
    given = options()
    if ctypes.CDLL(None, use_errno=True).prctl(_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "orphans cannot be kept in sight")
    server = Server(given.workers)
    try:
        work = soak(server, given.episodes, given.calls, given.concurrency, given.workers, given.every, given.kills)
        figures = asyncio.run(asyncio.wait_for(work, 60 * given.minutes))
    finally:
        code = server.stop()
    report("soak", {**figures, "server exit code": code}, given.json)
    bad = (
        figures["wrong replies"]
        or figures["lost episodes"]
        or figures["orphans left"]
        or abs(figures["memory change %"]) > 10
    )
    print(json.dumps({"passed": not bad}))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
