"""What every server face uses: tools, and calls by episode that always end in an observation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Tool
from ferrule.serve.episodes import Episodes, Limits
from ferrule.serve.threads import Threads

__all__ = ["Forking", "Host", "InProcess", "Limits", "Managed"]


@runtime_checkable
class Host(Protocol):
    """Episodes of a toolset, in this process or in others."""

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Descriptions of the tools on offer; ``run`` is not called through them."""
        ...

    async def act(self, episode: str, call: Call, seconds: float | None = None) -> Observation:
        """Run one call of an episode; the first call of an unknown id opens it. Never raises.

        Calls of one episode run one after another, in the order in which they arrived. What the host itself answers is
        an observation whose ``data["reason"]`` is ``queue_full``, ``too_many_episodes`` or ``draining`` (status
        ``refused``; nothing ran), ``worker_died``, ``expired``, ``memory`` or ``time_limit`` (the state is lost,
        which is said once; the next call starts anew).
        """
        ...

    async def end(self, episode: str) -> None:
        """Close an episode; may be called twice, and for ids that never were."""
        ...


@runtime_checkable
class Forking(Protocol):
    """A host whose episodes can be branched."""

    async def fork(self, episode: str) -> Observation:
        """Branch an episode in its present state; ``data["episode"]`` of an ok observation is the branch's id."""
        ...


@runtime_checkable
class Managed(Protocol):
    """A host that can be watched and shut down."""

    def figures(self) -> dict[str, float]:
        """Return ``live``, ``pending``, ``running``, ``restarts``, ``workers`` and ``draining`` (0 or 1)."""
        ...

    def problems(self) -> tuple[str, ...]:
        """Return what is wrong at present, a line each: a worker that ends right after its start."""
        ...

    async def drain(self, seconds: float) -> bool:
        """Refuse new episodes and wait for the calls in flight, then refuse all; True when all ended in time."""
        ...

    async def aclose(self) -> None:
        """Close all episodes and free everything; may be called twice."""
        ...


class InProcess:
    """Episodes in this process: ``open(episode)`` makes the session of each, threads run the calls.

    ``tools`` are taken from a session that is opened for the purpose where none are given. One ``InProcess`` belongs to
    one event loop.
    """

    def __init__(
        self, open: Callable[[str], Session], *, tools: Sequence[Tool] | None = None, limits: Limits | None = None
    ) -> None:
        """Open nothing but, where ``tools`` are missing, one session to read them from."""
        self.limits = limits or Limits()
        if tools is None:
            probe = open("")
            tools = probe.tools
            probe.close()
        self._tools = tuple(tools)
        self._threads = Threads(open, self.limits.seconds, self.limits.slack)
        self._episodes = Episodes(self._threads, self.limits)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools on offer."""
        return self._tools

    async def act(self, episode: str, call: Call, seconds: float | None = None) -> Observation:
        """Run one call (see ``Host.act``)."""
        return await self._episodes.act(episode, call, seconds)

    async def end(self, episode: str) -> None:
        """Close an episode."""
        await self._episodes.end(episode)

    async def fork(self, episode: str) -> Observation:
        """Branch an episode."""
        return await self._episodes.fork(episode)

    def figures(self) -> dict[str, float]:
        """Return the numbers of live episodes and waiting calls; no workers."""
        return {**self._episodes.figures(), "restarts": 0, "workers": 0}

    def problems(self) -> tuple[str, ...]:
        """Return nothing: there are no workers."""
        return ()

    async def drain(self, seconds: float) -> bool:
        """Refuse new episodes and wait for the calls in flight."""
        return await self._episodes.drain(seconds)

    async def aclose(self) -> None:
        """Close all episodes."""
        await self._episodes.close()
        self._threads.close_all()
