"""Running calls on threads of this process, one session per episode, each call within its time."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation
from ferrule.serve.episodes import Lost
from ferrule.serve.wire import refusal

__all__ = ["Threads", "Timed"]

T = TypeVar("T")


@runtime_checkable
class Timed(Protocol):
    """A session that can give a single call its own time limit."""

    def act_within(self, call: Call, seconds: float | None) -> Observation:
        """Run one call for ``seconds`` at most (None: the tool's own limit)."""
        ...


@dataclass
class _Held:
    """A session and whether it was given up while a thread still works in it."""

    session: Session | None = None
    given_up: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Threads:
    """Sessions made by ``open(episode)``; every call runs on a thread of its own.

    A call that is still running ``slack`` seconds after its limit (``seconds`` where it brings none) is given up: its
    thread is abandoned, its session is closed as soon as possible, and ``Lost`` is raised.
    """

    def __init__(self, open: Callable[[str], Session], seconds: float = 60.0, slack: float = 30.0) -> None:
        """No session is opened yet."""
        self._open = open
        self._seconds = seconds
        self._slack = slack
        self._held: dict[str, _Held] = {}

    async def run(self, episode: str, call: Call, seconds: float | None) -> Observation:
        """Run one call; a session that cannot be opened is an observation of reason ``open_failed``."""
        held = self._held.setdefault(episode, _Held())
        limit = (self._seconds if seconds is None else seconds) + self._slack

        def work() -> Observation:
            try:
                session = held.session or self._open(episode)
            except Exception as problem:
                text = f"the episode could not be opened: {type(problem).__name__}: {problem}"
                return refusal("open_failed", text, "error")
            held.session = session
            return _act(session, call, seconds)

        try:
            observation = await _on_thread(work, limit, f"episode {episode}", lambda: self._finish(held))
        except TimeoutError:
            self._give_up(episode, held)
            text = f"{call.name} was given up after {limit:g} s; variables and files of this episode are lost"
            raise Lost(refusal("time_limit", text, "timeout")) from None
        if held.session is None:
            self._held.pop(episode, None)
        return observation

    async def end(self, episode: str) -> None:
        """Close the session in the background."""
        held = self._held.pop(episode, None)
        if held is not None and held.session is not None:
            session = held.session
            with contextlib.suppress(TimeoutError):
                await _on_thread(lambda: _close(session), self._slack, f"end of {episode}")

    async def fork(self, episode: str, twin: str) -> Observation:
        """Branch a session."""
        held = self._held.get(episode)
        if held is None or held.session is None:
            return Observation(twin, data={"episode": twin})
        session, branch = held.session, _Held()

        def work() -> Observation:
            try:
                branch.session = session.fork()
            except Exception as problem:
                text = f"the episode could not be branched: {type(problem).__name__}: {problem}"
                return refusal("fork_failed", text, "error")
            return Observation(twin, data={"episode": twin})

        try:
            observation = await _on_thread(work, self._slack, f"fork of {episode}", lambda: self._finish(branch))
        except TimeoutError:
            branch.given_up = True
            return refusal("time_limit", "the episode could not be branched in time", "timeout")
        if observation.status == "ok":
            self._held[twin] = branch
        return observation

    def twin(self, episode: str) -> str:
        """Return a fresh id."""
        return f"{episode[:200]}~{secrets.token_hex(6)}"

    def close_all(self) -> None:
        """Close every session, on this thread."""
        for held in list(self._held.values()):
            if held.session is not None:
                _close(held.session)
        self._held.clear()

    def _give_up(self, episode: str, held: _Held) -> None:
        if self._held.get(episode) is held:
            del self._held[episode]
        with held.lock:
            held.given_up = True
            session = held.session
        if session is not None:  # closing often ends what the thread is stuck in
            threading.Thread(target=_close, args=(session,), daemon=True, name=f"close {episode}").start()

    @staticmethod
    def _finish(held: _Held) -> None:
        """Close, on the thread that worked in it, a session that was given up meanwhile."""
        with held.lock:
            left = held.session if held.given_up else None
        if left is not None:
            _close(left)


def _act(session: Session, call: Call, seconds: float | None) -> Observation:
    started = time.perf_counter()
    try:
        observation: object = session.act_within(call, seconds) if isinstance(session, Timed) else session.act(call)
    except (Exception, SystemExit) as problem:
        text = f"{type(problem).__name__}: {problem}"
        observation = Observation(text, "error", data={"exception": type(problem).__name__})
    if not isinstance(observation, Observation):
        return Observation(f"the session answered with {type(observation).__name__}, not Observation", "error")
    return observation if observation.seconds else replace(observation, seconds=time.perf_counter() - started)


def _close(session: Session) -> None:
    with contextlib.suppress(Exception):  # nobody waits for the error
        session.close()


async def _on_thread(work: Callable[[], T], seconds: float, name: str, after: Callable[[], None] | None = None) -> T:
    """Run ``work`` on a fresh daemon thread; raises ``TimeoutError`` when it takes too long (the thread is left)."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(value: Any, problem: BaseException | None) -> None:
        if future.done():
            return
        if problem is None:
            future.set_result(value)
        else:
            future.set_exception(problem)

    def run() -> None:
        value, problem = None, None
        try:
            value = work()
        except BaseException as caught:  # the thread must answer whatever a tool raises
            problem = RuntimeError(f"{type(caught).__name__}: {caught}")
        if after is not None:
            after()
        with contextlib.suppress(RuntimeError):  # the loop has been closed; nobody waits any more
            loop.call_soon_threadsafe(settle, value, problem)

    threading.Thread(target=run, daemon=True, name=name[:100]).start()
    return await asyncio.wait_for(future, seconds)
