"""The event loop of async tools: one thread that lives from call to call, so that their clients and locks do, too."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import ctypes
import os
import threading
from collections.abc import Awaitable
from typing import Any

__all__ = ["SHARED", "Abandoned", "LimitReached", "Loop", "abandon", "settled", "waited"]

_SLACK = 0.25  # seconds that a cancelled function has for its clean-up before nobody waits for it any more
_PROBE = 0.1  # seconds in which a loop that is not held up answers
_GRACE = 1.0  # seconds for what is still running when a loop is closed


class Abandoned(BaseException):
    """Raised inside a thread whose caller has stopped waiting, so that pure-Python loops end."""


class LimitReached(Exception):
    """The call's own time limit was reached."""


def abandon(thread: threading.Thread) -> None:
    """Ask the interpreter to raise inside a thread; code that is stuck in C sees it when it comes back."""
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Abandoned))


async def settled(value: Awaitable[Any], seconds: float) -> tuple[Any, BaseException | None]:
    """Return what an awaitable returns, or what it raises; at the limit it is cancelled (``LimitReached``)."""
    try:
        async with asyncio.timeout(seconds):  # in this task: the limit counts from the first step of the function
            return await _caught(value)
    except TimeoutError:
        return None, LimitReached()


async def _caught(value: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    """Keep what a tool raises from the loop, which an interrupt or an exit would end."""
    try:
        return await value, None
    except asyncio.CancelledError:
        raise
    except BaseException as problem:
        return None, problem


class _Turn:
    """One call that waits for the loop: it begins there or is taken back before, never both."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.outcome: concurrent.futures.Future[tuple[Any, BaseException | None]] = concurrent.futures.Future()
        self._open = threading.Lock()

    def take_back(self) -> bool:
        return self._open.acquire(blocking=False)

    async def settle(self, value: Awaitable[Any], seconds: float) -> None:
        if not self._open.acquire(blocking=False):
            return
        self.begun.set()
        try:
            # Told from here: the loop's own way waits until whatever else is ready has had its turn.
            self.outcome.set_result(await settled(value, seconds))
        except asyncio.CancelledError as problem:
            self.outcome.set_result((None, problem))
            raise


class Loop:
    """An event loop on a thread of its own, started by the first call; calls from any number of threads share it.

    A call's limit counts from its beginning on the loop, so functions that block it run one after another. One that
    blocks it past its limit is left behind with the loop and with what was under way there; other calls get a new one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._home: tuple[asyncio.AbstractEventLoop, threading.Thread, int] | None = None

    def run(self, value: Awaitable[Any], seconds: float) -> tuple[Any, BaseException | None]:
        """Await ``value`` on the loop and return what it returns, or what it raises (``LimitReached`` at the limit)."""
        loop, thread = self._living()
        if thread is threading.current_thread():  # an async tool that calls another one, and waits for it
            inner = Loop()
            try:
                return inner.run(value, seconds)
            finally:
                inner.close()
        turn = _Turn()
        asyncio.run_coroutine_threadsafe(turn.settle(value, seconds), loop)
        while not turn.begun.wait(_PROBE):
            if not self._at(loop) and turn.take_back():
                return self.run(value, seconds)
        try:
            result, problem = turn.outcome.result(seconds + _SLACK)
        except TimeoutError:
            self._probe(loop, thread)
            return None, LimitReached()
        if isinstance(problem, asyncio.CancelledError) and not self._at(loop):
            return None, RuntimeError("the event loop ended: it was closed, or another async tool blocked it")
        return result, problem

    def _at(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell whether calls still go to this loop."""
        home = self._home
        return home is not None and home[0] is loop and home[1].is_alive()

    def _living(self) -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
        with self._lock:
            home = self._home
            if home is None or not home[1].is_alive() or home[2] != os.getpid():  # a forked process has no threads
                ready: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
                thread = threading.Thread(target=_live, args=(ready,), daemon=True, name="async tools")
                thread.start()
                self._home = home = (ready.result(), thread, os.getpid())
            return home[:2]

    def _probe(self, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
        """Leave the loop behind when it does not answer; a long clean-up alone does not hold it up."""
        answered = threading.Event()
        with contextlib.suppress(RuntimeError):  # it is closed already
            loop.call_soon_threadsafe(answered.set)
            if answered.wait(_PROBE):
                return
            with self._lock:
                if self._home is not None and self._home[0] is loop:
                    self._home = None
            abandon(thread)
            loop.call_soon_threadsafe(loop.stop)

    def close(self) -> None:
        """Cancel what still runs and end the thread; a later call starts another."""
        with self._lock:
            home, self._home = self._home, None
        if home is None or home[2] != os.getpid():
            return
        loop, thread, _ = home
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(_GRACE)
            if thread.is_alive():
                abandon(thread)


def _live(ready: concurrent.futures.Future[asyncio.AbstractEventLoop]) -> None:
    with contextlib.suppress(Abandoned), asyncio.Runner() as runner:
        loop = runner.get_loop()
        ready.set_result(loop)
        loop.run_forever()


SHARED = Loop()
"""The loop of tools that all episodes of a process share."""


def waited(value: Awaitable[Any], seconds: float) -> Any:
    """Await ``value`` on the shared loop and return what it returns; raises what it raises."""
    result, problem = SHARED.run(value, seconds)
    if problem is not None:
        raise problem
    return result


atexit.register(SHARED.close)
