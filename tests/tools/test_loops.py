"""Async tools share one event loop: what is bound to it survives, and whoever blocks it does not hold up the rest."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from ferrule.core.records import Call
from ferrule.tools import tool
from ferrule.tools.invoke import invoke
from ferrule.tools.loops import LimitReached, Loop

LATE = 5.0  # seconds that a busy machine may be late


class _Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open, so that a client keeps them for its next request

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")


def test_a_client_and_a_lock_live_from_call_to_call() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client, lock = httpx.AsyncClient(trust_env=False), asyncio.Lock()
    held: list[int] = []

    @tool
    async def fetch() -> str:
        """Fetch a page."""
        async with lock:
            held.append(1)
            await asyncio.sleep(0.01)
            text = (await client.get(f"http://127.0.0.1:{server.server_port}/")).text
            assert len(held) == 1, "two calls held the lock"
            held.pop()
        return text

    @tool
    async def leave() -> None:
        """Close the client."""
        await client.aclose()

    for _ in range(4):
        assert invoke(fetch, Call("fetch")).text == "ok"
    with ThreadPoolExecutor(8) as pool:  # a lock binds itself to a loop only when calls wait for each other
        assert [each.text for each in pool.map(lambda _: invoke(fetch, Call("fetch")), range(8))] == ["ok"] * 8
    invoke(leave, Call("leave"))
    server.shutdown()
    server.server_close()


def test_calls_wait_side_by_side() -> None:
    @tool
    async def nap() -> None:
        """Sleep."""
        await asyncio.sleep(0.5)

    start = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        assert all(each.status == "ok" for each in pool.map(lambda _: invoke(nap, Call("nap")), range(16)))
    assert time.monotonic() - start < 16 * 0.5  # one after another they would take 8 s


@pytest.mark.parametrize("busy", [True, False], ids=["endless", "sleeping"])
def test_who_blocks_the_loop_times_out_and_later_calls_go_on(busy: bool) -> None:
    loop = Loop()

    async def block() -> None:
        if busy:
            while True:
                pass
        time.sleep(3)

    async def quick() -> str:
        return "done"

    start = time.monotonic()
    _, problem = loop.run(block(), 0.3)
    assert isinstance(problem, LimitReached)
    assert loop.run(quick(), 5.0) == ("done", None)
    assert time.monotonic() - start < (0.3 + LATE if busy else 3.0)
    loop.close()


def test_calls_that_block_the_loop_run_one_after_another_within_their_own_limits() -> None:
    loop, began = Loop(), list[int]()

    async def block(number: int) -> int:
        began.append(number)
        time.sleep(0.4)
        return number

    async def stuck() -> None:
        time.sleep(1.5)

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(loop.run, stuck(), 0.2)
        time.sleep(0.05)
        others = [pool.submit(loop.run, block(number), 0.5) for number in range(4)]
        # Together they take 1.6 s, each is allowed half a second of its own, and none is run twice.
        assert [other.result() for other in others] == [(number, None) for number in range(4)]
        assert isinstance(first.result()[1], LimitReached)
    assert sorted(began) == [0, 1, 2, 3]
    loop.close()


def test_an_async_tool_may_wait_for_another_one() -> None:
    @tool
    async def inner() -> str:
        """Say so."""
        await asyncio.sleep(0)
        return "inner"

    @tool
    async def outer() -> str:
        """Ask the other one."""
        return invoke(inner, Call("inner")).text

    assert invoke(outer, Call("outer"), seconds=LATE).text == "inner"


@pytest.mark.parametrize("problem", [ValueError("v"), SystemExit(2), KeyboardInterrupt(), asyncio.CancelledError()])
def test_whatever_an_async_tool_raises_is_an_error_and_the_loop_lives(problem: BaseException) -> None:
    loops: list[object] = []

    @tool
    async def fail(fails: bool) -> str:
        """Fail."""
        loops.append(asyncio.get_running_loop())
        if fails:
            raise problem
        return "ok"

    failed = invoke(fail, Call("fail", {"fails": True}))
    assert failed.status == "error"
    assert type(problem).__name__ in failed.text
    assert invoke(fail, Call("fail", {"fails": False})).text == "ok"
    assert loops[0] is loops[1]


def test_context_variables_reach_the_loop() -> None:
    name: ContextVar[str] = ContextVar("name", default="nobody")

    @tool
    async def who() -> str:
        """Say who calls."""
        return name.get()

    token = name.set("Ada")
    assert invoke(who, Call("who")).text == "Ada"
    name.reset(token)
    assert invoke(who, Call("who")).text == "nobody"


def test_a_closed_loop_ends_what_runs_on_it_and_starts_again() -> None:
    loop, ended = Loop(), threading.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def behind() -> None:
        asyncio.get_running_loop().create_task(forever()).add_done_callback(lambda _: None)
        await asyncio.sleep(0)

    loop.run(behind(), LATE)
    loop.close()
    assert ended.wait(LATE)
    loop.run(behind(), LATE)
    loop.close()
