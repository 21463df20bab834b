"""Which episodes live, in what order their calls run, and what is refused: the bookkeeping every host shares."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeVar

from ferrule.core.records import Call, Observation
from ferrule.serve.wire import refusal

__all__ = ["Episodes", "Limits", "Lost", "Runner"]

T = TypeVar("T")
_REMEMBERED = 100_000  # ids whose loss was not reported yet; the oldest are forgotten
_LOST = {
    "worker_died": "the process that held this episode died: its variables and files are lost",
    "expired": "this episode was closed because it lay idle: its variables and files are lost",
    "memory": "the process that held this episode used too much memory and was ended: variables and files are lost",
    "time_limit": "the call did not end in time and was given up: variables and files of this episode are lost",
}


@dataclass(frozen=True)
class Limits:
    """Bounds of a host.

    ``episodes`` live at most; ``queue`` calls wait or run at most, ``running`` of them at the same time. An episode
    without a call for ``idle_seconds`` is closed; when the host is full, the least recently used one goes once it has
    been idle for ``spare_seconds``. ``seconds`` is the most that one call may take, ``slack`` what a start or a
    clean-up may take on top before the host gives a call up.
    """

    episodes: int = 512
    queue: int = 4096
    running: int = 128
    idle_seconds: float = 600.0
    spare_seconds: float = 60.0
    seconds: float = 60.0
    slack: float = 30.0

    def __post_init__(self) -> None:
        """Refuse bounds under which nothing could run, naming the field."""
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not value > 0:
                raise ValueError(f"{entry.name} is {value}; it must be above 0")


class Lost(Exception):
    """The session of an episode is gone; ``observation`` is the result of its call."""

    def __init__(self, observation: Observation) -> None:
        """Keep the observation."""
        self.observation = observation
        super().__init__(observation.text)


class Runner(Protocol):
    """What runs calls: it keeps one session per episode and is asked for one call per episode at a time."""

    async def run(self, episode: str, call: Call, seconds: float | None) -> Observation:
        """Run one call, opening the session when there is none; raises ``Lost`` when the session is gone."""
        ...

    async def end(self, episode: str) -> None:
        """Close the session, when there is one."""
        ...

    async def fork(self, episode: str, twin: str) -> Observation:
        """Branch the session of ``episode`` into a new one for ``twin``; raises ``Lost``."""
        ...

    def twin(self, episode: str) -> str:
        """Return a fresh id under which a branch of ``episode`` can live."""
        ...


@dataclass
class _Episode:
    name: str
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    used: float = field(default_factory=time.monotonic)
    pending: int = 0
    opened: bool = False
    losses: int = 0
    reason: str = ""
    untold: str = ""


class Episodes:
    """Admits calls, keeps those of an episode in order, bounds everything, and reports once when state was lost.

    All methods belong to one event loop. A call that was admitted runs to its end even when its caller is cancelled,
    so that the next call of the episode cannot overtake it.
    """

    def __init__(self, runner: Runner, limits: Limits) -> None:
        """Start empty."""
        self.limits = limits
        self.draining = False
        self.drained = False
        self.pending = 0
        self.running = 0
        self._runner = runner
        self._live: OrderedDict[str, _Episode] = OrderedDict()
        self._untold: OrderedDict[str, str] = OrderedDict()
        self._slots = asyncio.Semaphore(limits.running)
        self._tasks: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def figures(self) -> dict[str, float]:
        """Return ``live`` episodes, ``pending`` and ``running`` calls, and ``draining`` (0 or 1)."""
        return {
            "live": len(self._live),
            "pending": self.pending,
            "running": self.running,
            "draining": float(self.draining),
        }

    async def act(self, name: str, call: Call, seconds: float | None = None) -> Observation:
        """Run one call in its turn; never raises (but for the caller's own cancellation)."""
        admitted = self._admit(name)
        if isinstance(admitted, Observation):
            return admitted
        return await self._keep(self._act(admitted, admitted.losses, call, self._bounded(seconds)))

    async def end(self, name: str) -> None:
        """Close an episode after its earlier calls; unknown ids are ignored."""
        self._untold.pop(name, None)
        episode = self._live.get(name)
        if episode is not None:
            self._hold(episode)
            await self._keep(self._end(episode))

    async def fork(self, name: str) -> Observation:
        """Branch an episode; ``data["episode"]`` is the id of the branch. One without state gives a fresh id."""
        origin = self._admit(name)
        if isinstance(origin, Observation):
            return origin
        twin = self._admit(self._runner.twin(name))
        if isinstance(twin, Observation):
            self._release(origin)
            return twin
        return await self._keep(self._fork(origin, origin.losses, twin))

    def lose(self, names: Iterable[str], reason: str) -> None:
        """Note that the sessions of episodes are gone: pending calls, else the next one, will say so."""
        for name in names:
            episode = self._live.get(name)
            if episode is not None and episode.opened:
                self._lose(episode, reason)

    async def drain(self, seconds: float) -> bool:
        """Refuse new episodes, wait for the calls in flight at most so long, and return whether all ended.

        Live episodes may go on for the first half of the time; after that no call is taken any more, so that the second
        half is left to those in flight.
        """
        self.draining = True
        now = time.monotonic()
        await self._settle(now + seconds / 2)
        self.drained = True
        await self._settle(now + seconds)
        return not self._tasks

    async def _settle(self, until: float) -> None:
        while self._tasks and (left := until - time.monotonic()) > 0:
            await asyncio.wait(list(self._tasks), timeout=left)

    async def close(self) -> None:
        """Close all episodes; calls still in flight are left to the runner."""
        self.draining = True
        if self._timer is not None:
            self._timer.cancel()
        names = list(self._live)
        self._live.clear()
        await asyncio.gather(*(self._runner.end(name) for name in names), return_exceptions=True)

    def _bounded(self, seconds: float | None) -> float | None:
        return None if seconds is None else min(max(float(seconds), 0.001), self.limits.seconds)

    async def _keep(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` as a task of its own, which outlives a cancelled caller."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    # ------------------------------------------------------------------------------------------------- admission
    def _admit(self, name: str) -> _Episode | Observation:
        """Return the episode with one more pending call, or why there is none."""
        if self.drained:
            return refusal("draining", "the server is shutting down and takes no calls any more")
        if self.pending >= self.limits.queue:
            return refusal("queue_full", f"the server is busy: {self.pending} calls wait or run; try again later")
        if (reason := self._untold.pop(name, "")) != "":
            return _gone(reason)
        episode = self._live.get(name)
        if episode is None:
            if self.draining:
                return refusal("draining", "the server is shutting down and opens no new episodes")
            if len(self._live) >= self.limits.episodes and not self._evict():
                text = f"{len(self._live)} episodes are live, which is the most; end some or try again later"
                return refusal("too_many_episodes", text)
            episode = self._live[name] = _Episode(name)
            self._watch()
        elif not episode.pending and (told := self._untold_loss(episode, episode.losses)) is not None:
            return told  # with calls pending, one of them may tell it yet: this one asks in its turn
        self._hold(episode)
        return episode

    def _hold(self, episode: _Episode) -> None:
        episode.pending += 1
        self.pending += 1
        self._live.move_to_end(episode.name)

    def _release(self, episode: _Episode) -> None:
        episode.pending -= 1
        self.pending -= 1
        episode.used = time.monotonic()
        if not episode.pending and not episode.opened and not episode.untold:
            self._live.pop(episode.name, None)  # it holds nothing

    def _evict(self) -> bool:
        """Close the least recently used episode when it has been idle for long enough."""
        episode = next((candidate for candidate in self._live.values() if not candidate.pending), None)
        if episode is None or time.monotonic() - episode.used < self.limits.spare_seconds:
            return False
        self._expire(episode)
        return True

    def _expire(self, episode: _Episode) -> None:
        self._live.pop(episode.name, None)
        self._untold[episode.name] = episode.untold or "expired"
        while len(self._untold) > _REMEMBERED:
            self._untold.popitem(last=False)
        task = asyncio.ensure_future(self._runner.end(episode.name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _watch(self) -> None:
        """Look for idle episodes from time to time, as long as there are any."""
        if self._timer is None:
            pause = min(max(self.limits.idle_seconds / 4, 0.02), 5.0)
            self._timer = asyncio.get_running_loop().call_later(pause, self._tidy)

    def _tidy(self) -> None:
        self._timer = None
        oldest = time.monotonic() - self.limits.idle_seconds
        for episode in [live for live in self._live.values() if not live.pending and live.used <= oldest]:
            self._expire(episode)
        if self._live:
            self._watch()

    # --------------------------------------------------------------------------------------------------- running
    async def _act(self, episode: _Episode, losses: int, call: Call, seconds: float | None) -> Observation:
        try:
            async with episode.turn, self._slots:
                if (told := self._untold_loss(episode, losses)) is not None:
                    return told
                self.running += 1
                episode.opened = True
                try:
                    return await self._runner.run(episode.name, call, seconds)
                except Lost as loss:
                    return self._told(episode, losses, loss)
                except Exception as problem:
                    return refusal("host_failed", f"the host failed: {type(problem).__name__}: {problem}", "error")
                finally:
                    self.running -= 1
        finally:
            self._release(episode)

    async def _fork(self, origin: _Episode, losses: int, twin: _Episode) -> Observation:
        try:
            async with origin.turn, twin.turn:
                if (told := self._untold_loss(origin, losses)) is not None:
                    return told
                if not origin.opened:
                    return Observation(twin.name, data={"episode": twin.name})
                twin.opened, branched = True, False  # a loss right behind the answer must find it opened
                try:
                    observation = await self._runner.fork(origin.name, twin.name)
                    branched = observation.status == "ok"
                    return observation
                except Lost as loss:
                    return self._told(origin, losses, loss)
                finally:
                    if not branched:
                        twin.opened, twin.untold = False, ""
        finally:
            self._release(twin)
            self._release(origin)

    async def _end(self, episode: _Episode) -> None:
        try:
            async with episode.turn:
                episode.opened, episode.untold = False, ""
                await self._runner.end(episode.name)
        finally:
            self._release(episode)

    def _told(self, episode: _Episode, losses: int, loss: Lost) -> Observation:
        """Return the result of a call whose session is gone, which tells the loss; other pending calls tell it too."""
        if episode.losses == losses:
            data = loss.observation.data
            self._lose(episode, data["reason"] if isinstance(data, dict) and "reason" in data else "worker_died")
        episode.untold = ""
        return loss.observation

    def _untold_loss(self, episode: _Episode, losses: int) -> Observation | None:
        """Return what tells a call that the state is lost: since it came, or earlier and nobody was told.

        A session can end right behind the answer of a call, before that call goes on. It then returns its answer and
        tells nothing, so a loss stays untold until a call has told it, even when one was pending.
        """
        if episode.losses == losses and not episode.untold:
            return None
        episode.untold = ""
        return _gone(episode.reason)

    def _lose(self, episode: _Episode, reason: str) -> None:
        episode.losses += 1
        episode.opened = False
        episode.reason = episode.untold = reason


def _gone(reason: str) -> Observation:
    what = _LOST.get(reason, "the session of this episode is gone: its variables and files are lost")
    return refusal(reason, f"{what}. The call was not run; the next one starts the episode anew.", "error")
