"""Episodes in several worker processes: sticky by id, replies matched by number, dead workers replaced at once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import secrets
import time
import zlib
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ferrule.core.exact import write
from ferrule.core.records import Call, Observation, Tool
from ferrule.serve.episodes import Episodes, Limits, Lost
from ferrule.serve.frames import FrameError
from ferrule.serve.process import Worker, WorkerFailed
from ferrule.serve.wire import observation_of, refusal

__all__ = ["Source", "Workers", "resident"]

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_PAUSE = 1.0  # seconds between two looks at the workers' memory
_EARLY = 10.0  # a worker that ended before so many seconds without one answer could not do its work
_ATTEMPTS = 5  # starts of a worker that may fail one after another before its episodes are told so
_SLOWEST = 10.0  # seconds, the longest pause before another start
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Source:
    """What a worker builds: ``factory`` (``module:name``), called with ``options``, gives ``tools`` and ``open(id)``.

    ``path`` names folders in which the worker looks for modules as well. ``options`` must be JSON data. A ``warm()``
    of the built object is called before the worker takes calls.
    """

    factory: str
    options: Mapping[str, Any] = field(default_factory=dict)
    path: tuple[str, ...] = ()


class Workers:
    """A host over ``count`` worker processes; an episode belongs to worker ``crc32(utf-8 of its id) mod count``.

    A worker that dies, breaks the protocol or stops answering is replaced at once, one that dies at its start ever more
    slowly (``problems`` names it); the calls it had in flight, and the next call of each of its other episodes, end in
    an observation of reason ``worker_died``. A worker whose resident
    memory passes ``memory_mb`` gets no new episodes and ends with its last one; at twice that it is ended at once
    (reason ``memory``). One host belongs to one event loop; use it as ``async with Workers(...) as host``.
    """

    def __init__(self, source: Source, count: int = 2, *, limits: Limits | None = None, memory_mb: int = 2048) -> None:
        """Start nothing yet; raises ``ValueError`` for numbers below 1."""
        for name, value in (("count", count), ("memory_mb", memory_mb)):
            if value < 1:
                raise ValueError(f"{name} is {value}; the least is 1")
        self.limits = limits or Limits()
        self.restarts = 0
        self._source = source
        self._pool = _Pool(self, source, count, memory_mb)
        self._episodes = Episodes(self._pool, self.limits)
        self._tools: tuple[Tool, ...] = ()

    async def __aenter__(self) -> Workers:
        """Start the workers and wait until all are ready; raises ``WorkerFailed`` with the reason of the first."""
        try:
            self._tools = await self._pool.start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.aclose()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools on offer, as the workers describe them."""
        return self._tools

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that take new episodes."""
        return tuple(slot.worker.pid for slot in self._pool.slots if slot.worker is not None)

    async def act(self, episode: str, call: Call, seconds: float | None = None) -> Observation:
        """Run one call (see ``Host.act``)."""
        return await self._episodes.act(episode, call, seconds)

    async def end(self, episode: str) -> None:
        """Close an episode."""
        await self._episodes.end(episode)

    async def fork(self, episode: str) -> Observation:
        """Branch an episode; the branch's id is made so that it belongs to the same worker."""
        return await self._episodes.fork(episode)

    def figures(self) -> dict[str, float]:
        """Return the numbers of live episodes, waiting calls and replaced workers."""
        return {**self._episodes.figures(), "restarts": self.restarts, "workers": len(self.pids)}

    def problems(self) -> tuple[str, ...]:
        """Return a line for every worker that fails at its start, again and again."""
        return self._pool.problems()

    def lose(self, episodes: list[str], reason: str) -> None:
        """Note that the sessions of episodes are gone."""
        self._episodes.lose(episodes, reason)

    async def drain(self, seconds: float) -> bool:
        """Refuse new episodes and wait for the calls in flight."""
        return await self._episodes.drain(seconds)

    async def aclose(self) -> None:
        """End all workers; their sessions are closed with them."""
        self._episodes.draining = True
        await self._pool.close()


@dataclass
class _Slot:
    """The worker that takes the new episodes of one remainder, and those that only finish theirs."""

    index: int
    worker: Worker | None = None
    leaving: list[Worker] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    starting: asyncio.Task[None] | None = None
    failed: int = 0  # starts in a row that came to nothing
    problem: str = ""


class _Pool:
    """The runner behind ``Workers``: which process holds which episode, and the processes' life."""

    def __init__(self, host: Workers, source: Source, count: int, memory_mb: int) -> None:
        self.slots = [_Slot(index) for index in range(count)]
        self._host = host
        self._source = source
        self._limits = host.limits
        self._memory = memory_mb << 20
        self._where: dict[str, Worker] = {}
        self._numbers = itertools.count(1)
        self._closed = False
        self._watcher: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[Any]] = set()

    async def start(self) -> tuple[Tool, ...]:
        started = await asyncio.gather(*(self._launch(slot) for slot in self.slots), return_exceptions=True)
        for problem in started:
            if isinstance(problem, BaseException):
                raise problem
        self._watcher = asyncio.ensure_future(self._watch())
        first = self.slots[0].worker
        assert first is not None
        return first.tools

    async def close(self) -> None:
        self._closed = True
        if self._watcher is not None:
            self._watcher.cancel()
        tasks: list[Any] = []
        for slot in self.slots:
            if slot.starting is not None:
                slot.starting.cancel()
                tasks.append(slot.starting)
            slot.problem, slot.failed = slot.problem or "the server is shutting down", _ATTEMPTS
            slot.ready.set()
            tasks += [worker.stop() for worker in (slot.worker, *slot.leaving) if worker is not None]
            slot.worker, slot.leaving = None, []
        await asyncio.gather(*tasks, *self._ending, return_exceptions=True)

    # ------------------------------------------------------------------------------------------- what Episodes asks for
    async def run(self, episode: str, call: Call, seconds: float | None) -> Observation:
        worker = await self._worker(episode)
        if isinstance(worker, Observation):
            return worker
        limit = (self._limits.seconds if seconds is None else seconds) + 2 * self._limits.slack
        request = {"do": "act", "episode": episode, "call": write(call), "seconds": seconds}
        return await self._asked(worker, request, limit)

    async def fork(self, episode: str, twin: str) -> Observation:
        worker = self._where.get(episode)
        if worker is None:
            return Observation(twin, data={"episode": twin})
        self._where[twin] = worker
        worker.episodes.add(twin)
        observation = await self._asked(
            worker, {"do": "fork", "episode": episode, "twin": twin}, 2 * self._limits.slack
        )
        if observation.status != "ok":
            self._forget(twin)
        return observation

    async def end(self, episode: str) -> None:
        worker = self._forget(episode)
        if worker is not None and worker.alive:
            with contextlib.suppress(Lost):
                await self._asked(worker, {"do": "end", "episode": episode}, 2 * self._limits.slack)
            self._let_go(worker)

    def twin(self, episode: str) -> str:
        wanted = self._index(episode)
        while True:
            name = f"{episode[:200]}~{secrets.token_hex(6)}"
            if self._index(name) == wanted:
                return name

    async def _asked(self, worker: Worker, request: dict[str, Any], seconds: float) -> Observation:
        """Ask a worker; its death is ``Lost``, and a silent worker is killed."""
        try:
            answer = await worker.ask({"id": next(self._numbers), **request}, seconds)
            observation = observation_of(answer.get("observation") or {})
        except FrameError as problem:
            return refusal("too_large", f"the call is too large to be passed on: {problem}")
        except WorkerFailed as problem:
            reason = worker.reason or "worker_died"
            text = f"{problem}; variables and files of this episode are lost. The next call starts it anew."
            raise Lost(refusal(reason, text, "error")) from None
        except ValueError as problem:
            worker.kill(f"it broke the protocol ({problem})")
            text = f"the worker was ended because it broke the protocol: {problem}; the state of this episode is lost"
            raise Lost(refusal("worker_died", text, "error")) from None
        if answer.get("lost") is True:
            self._forget(str(request["episode"]))
            self._let_go(worker)
            raise Lost(observation)
        return observation

    # --------------------------------------------------------------------------------------------- episodes and workers
    def _index(self, episode: str) -> int:
        return zlib.crc32(episode.encode("utf-8", "replace")) % len(self.slots)

    async def _worker(self, episode: str) -> Worker | Observation:
        """Return the worker that holds the episode, or will; waits while a replacement starts."""
        worker = self._where.get(episode)
        if worker is not None and worker.alive:
            return worker
        slot = self.slots[self._index(episode)]
        while slot.worker is None or not slot.worker.alive:
            try:
                await asyncio.wait_for(slot.ready.wait(), self._limits.slack)
            except TimeoutError:
                return refusal("worker_unavailable", "the worker of this episode is being replaced; try again", "error")
            if slot.worker is None and slot.failed >= _ATTEMPTS:
                return refusal("worker_unavailable", f"no worker could be started: {slot.problem}", "error")
            await asyncio.sleep(0)
        self._where[episode] = slot.worker
        slot.worker.episodes.add(episode)
        return slot.worker

    def _forget(self, episode: str) -> Worker | None:
        worker = self._where.pop(episode, None)
        if worker is not None:
            worker.episodes.discard(episode)
        return worker

    async def _launch(self, slot: _Slot) -> None:
        """Start the worker of a slot."""
        source = self._source
        hello = {
            "factory": source.factory,
            "options": dict(source.options),
            "path": [str(Path(path).resolve()) for path in source.path],
            "seconds": self._limits.seconds,
            "slack": self._limits.slack,
        }
        worker = await Worker.start(hello, lambda died: self._died(slot, died))
        if self._closed:
            await worker.stop()
            return
        slot.worker = worker
        slot.ready.set()

    def _died(self, slot: _Slot, worker: Worker) -> None:
        """Tell the episodes of a dead worker, and replace it when it was the one for new episodes."""
        gone = sorted(worker.episodes)
        worker.episodes.clear()
        for name in gone:
            self._where.pop(name, None)
        self._host.lose(gone, worker.reason or "worker_died")
        self._wait_for(worker.ended())  # whoever closes the host waits for it as well
        if worker in slot.leaving:
            slot.leaving.remove(worker)
        if slot.worker is worker:
            slot.worker = None
            self._replace(slot, worker)

    def _replace(self, slot: _Slot, dead: Worker | None = None) -> None:
        if not self._closed and (slot.starting is None or slot.starting.done()):
            slot.ready.clear()
            self._host.restarts += 1
            slot.starting = asyncio.ensure_future(self._relaunch(slot, dead))

    async def _relaunch(self, slot: _Slot, dead: Worker | None) -> None:
        """Start a replacement; starts that fail, and workers that end at their start, are followed ever more slowly."""
        if dead is not None and _works(dead):
            slot.failed = 0
        elif dead is not None:
            how = await asyncio.shield(self._wait_for(dead.ended()))
            self._failed(slot, f"it ended right after its start with {how}")
        while True:
            await asyncio.sleep(min(0.1 * 2 ** (slot.failed - 2), _SLOWEST) if slot.failed > 1 else 0)
            try:
                return await self._launch(slot)
            except (WorkerFailed, OSError) as problem:
                self._failed(slot, str(problem))

    def _failed(self, slot: _Slot, how: str) -> None:
        slot.failed, slot.problem = slot.failed + 1, how
        _LOG.warning("worker %d of %d: %d starts in a row failed: %s", slot.index, len(self.slots), slot.failed, how)
        if slot.failed >= _ATTEMPTS:
            slot.ready.set()  # whoever waits is told

    def problems(self) -> tuple[str, ...]:
        """Return a line for every slot whose last starts failed, until a worker of it works."""
        failing = [slot for slot in self.slots if slot.failed > 1 and not (slot.worker and _works(slot.worker))]
        return tuple(
            f"worker {slot.index} of {len(self.slots)}: {slot.failed} starts in a row failed; the log says why"
            for slot in failing
        )

    # ----------------------------------------------------------------------------------------------------------- memory
    async def _watch(self) -> None:
        """Check the workers' memory from time to time."""
        while True:
            await asyncio.sleep(_PAUSE)
            for slot in self.slots:
                for worker in [*slot.leaving, slot.worker]:
                    if worker is not None and worker.alive:
                        self._weigh(slot, worker)

    def _weigh(self, slot: _Slot, worker: Worker) -> None:
        size = resident(worker.pid)
        if size > 2 * self._memory:
            worker.reason = "memory"
            worker.kill(f"the worker was ended because it held {size >> 20} MiB")
        elif size > self._memory and worker is slot.worker and not slot.leaving:
            slot.worker = None
            slot.leaving.append(worker)
            self._replace(slot)
            self._let_go(worker)

    def _let_go(self, worker: Worker) -> None:
        """End a worker that only finishes its episodes, once it has none."""
        for slot in self.slots:
            if worker in slot.leaving and not worker.episodes:
                slot.leaving.remove(worker)
                self._wait_for(worker.stop())

    def _wait_for(self, ending: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Follow the end of a worker as a task that ``close`` waits for as well."""
        task = asyncio.ensure_future(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task


def _works(worker: Worker) -> bool:
    """Say whether a worker did something, or at least lasted."""
    return worker.answered > 0 or time.monotonic() - worker.began > _EARLY


def resident(pid: int) -> int:
    """Return the resident memory of a process (bytes); 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0
