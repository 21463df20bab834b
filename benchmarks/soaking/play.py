"""Episodes whose calls build on each other, and the book of what happened to them.

Every episode, and every branch of one, keeps a running total in the server that starts at a number of its own; every
reply must be the total that its own calls make. A reply that belongs to another call, another episode or lost state
cannot be equal to it by accident.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

CLIENTS = 8  # connection pools: the cost of one pool grows with the square of its waiting requests
LOST = "state lost, and said"
_DIED = ("interpreter died", "the code closed the interpreter's connection")
Called = Callable[[], Awaitable[None]]


@dataclass
class Book:
    """What happened to the calls and episodes."""

    statuses: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    clients: Counter[str] = field(default_factory=Counter)
    begun: int = 0
    branches: int = 0
    memory_peak: int = 0


async def nothing() -> None:
    """Do nothing after a call."""


@dataclass
class Line:
    """One line of calls: an episode, or a branch of it. ``total`` is None where there is no state."""

    name: str
    mark: str
    base: int
    total: int | None = None
    turn: int = 0
    end: str = "ok"

    def code(self) -> tuple[str, int]:
        """Return the next piece of code and the total that it must give."""
        if self.total is None:  # first call, or state was lost and said so: old state must not come back
            return f"total = {self.base} if 'total' not in globals() else -1", self.base
        step = self.turn + len(self.mark)  # branches add other numbers than what they were branched from
        return f"total += {step}", self.total + step

    def request(self) -> tuple[dict[str, Any], str, int]:
        """Return the body of the next call, the value it must give, and the total in it."""
        code, total = self.code()
        body = {"name": "python", "arguments": {"code": f"{code}\n({self.mark!r}, {self.turn}, total)"}}
        return {**body, "id": f"{self.mark}/{self.turn}"}, repr((self.mark, self.turn, total)), total

    def read(self, observation: dict[str, Any], value: str, total: int, book: Book) -> None:
        """Take an observation into account."""
        data = observation.get("data") or {}
        reason, status = data.get("reason") or "", observation["status"]
        died = not reason and (data.get("exception") or "").startswith(_DIED)
        told = f"{status} {reason or ('interpreter died' if died else 'restarted' if data.get('restarted') else '')}"
        book.statuses[told.strip()] += 1
        self.turn += 1
        if reason == "worker_unavailable":  # the call was not run; there was no state to lose
            self.end = "a call without a worker, and said"
        elif reason == "worker_died" or died or (data.get("restarted") and self.total is not None):
            if status == "ok":
                book.wrong.append(f"{self.mark} turn {self.turn - 1}: state was lost, yet {value} came")
            self.total, self.end = None, LOST
        elif status != "ok" or data.get("value") != value:
            got = data.get("value") or observation["text"]
            book.wrong.append(f"{self.mark} turn {self.turn - 1}: wanted {value}, got {status} {got!r}")
            self.total = None
        else:
            self.total = total


async def call(client: httpx.AsyncClient, line: Line, book: Book, called: Called) -> None:
    """Make the next call of a line."""
    body, value, total = line.request()
    began = time.perf_counter()
    try:
        said = await client.post(f"/episodes/{line.name}/act", json=body)
    except httpx.TransportError as problem:
        waited = time.perf_counter() - began
        book.wrong.append(f"{line.mark} turn {line.turn}: no answer after {waited:.2f} s: {problem!r}")
        line.total, line.turn = None, line.turn + 1
    else:
        book.seconds.append(time.perf_counter() - began)
        line.read(said.json(), value, total, book)
    await called()


async def branch(client: httpx.AsyncClient, line: Line, label: str, book: Book) -> Line | None:
    """Branch a line that has a state; None where it was lost, which the answer says."""
    observation = (await client.post(f"/episodes/{line.name}/fork")).json()
    reason = (observation.get("data") or {}).get("reason") or ""
    book.statuses[f"branch {observation['status']} {reason}".strip()] += 1
    if observation["status"] == "ok":
        book.branches += 1
        return replace(line, name=observation["data"]["episode"], mark=line.mark + label)
    if reason == "worker_died":
        line.total, line.end = None, LOST
    elif reason != "worker_unavailable":
        book.wrong.append(f"branch {line.mark}{label}: {observation['status']} {observation['text']!r}")
    return None


async def episode(client: httpx.AsyncClient, index: int, calls: int, book: Book, called: Called) -> None:
    """Play one episode; every second one is branched twice in the middle, and all three go on side by side."""
    book.begun += 1
    line = Line(f"soak-{index}", f"{index}.", 1_000_000 * (index + 1))
    first = calls if index % 2 else calls // 2
    for _ in range(first):
        await call(client, line, book, called)
    twins: list[Line] = []
    if first < calls:
        for label in ("a", "bb"):
            twin = None if line.total is None else await branch(client, line, label, book)
            twins += [] if twin is None else [twin]

    async def rest(one: Line) -> None:
        for _ in range(calls - first):
            await call(client, one, book, called)

    await asyncio.gather(*(rest(one) for one in (line, *twins)))
    for one in (line, *twins):
        await client.post(f"/episodes/{one.name}/end")
    lost = [one.end for one in (line, *twins) if one.end != "ok"]
    book.ends[lost[0] if lost else "ok"] += 1


async def play(
    url: str, order: Iterable[int], calls: int, concurrency: int, book: Book, called: Called = nothing
) -> float:
    """Play the episodes that ``order`` gives, ``concurrency`` at a time, with ``called`` after every call.

    Returns the seconds.
    """
    indices = iter(order)

    async def work(client: httpx.AsyncClient) -> None:
        for index in indices:
            await episode(client, index, calls, book, called)

    began = time.perf_counter()
    async with contextlib.AsyncExitStack() as stack:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, timeout=120, limits=limits, trust_env=False)
            )
            for _ in range(min(CLIENTS, concurrency))
        ]
        await asyncio.gather(*(work(clients[i % len(clients)]) for i in range(concurrency)))
    return time.perf_counter() - began
