"""What a Ray worker does: plays episodes in its own process and hands out their asks."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, cast

from ferrule.core.exact import decode, encode
from ferrule.core.flows import Agent, Ask, Policy, World
from ferrule.core.records import Observation, Reply, Task
from ferrule.rollout.drive import Gather, Policies, Waiting, carry_out
from ferrule.rollout.record import Episode
from ferrule.rollout.run import Limits, Run

__all__ = ["Elsewhere", "Job", "RayWorker", "sendable"]


@dataclass(frozen=True)
class Elsewhere:
    """Stands for a policy that answers in the driving process."""

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        """Never called: a worker hands such asks out."""
        raise RuntimeError("this policy answers in the driving process: a worker hands its asks out")


@dataclass(frozen=True)
class Job:
    """What all episodes of one rollout share."""

    agent: Agent
    world: World
    policies: Policies
    seed: int
    temperature: float | None
    limits: Limits


def sendable(policies: Policies, dumps: Callable[[Any], bytes]) -> Policies:
    """Return the policies as workers see them: those that answer single asks and can be sent along, and stand-ins."""

    def as_sent(policy: Policy) -> Policy:
        if not hasattr(policy, "agenerate"):
            return Elsewhere()
        try:
            dumps(policy)
        except (TypeError, ValueError, AttributeError, pickle.PicklingError):
            return Elsewhere()  # bound to this process, for example by the file it records to
        return policy

    if isinstance(policies, Mapping):
        return {role: as_sent(policy) for role, policy in policies.items()}
    return as_sent(policies)


def _not_here(**_: Any) -> Any:
    raise RuntimeError("a tool of another process")


@dataclass
class _Line:
    """The line between one episode and the driving process: the asks of a round go out, their replies come in."""

    out: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    waiting: Sequence[Waiting] = ()
    playing: asyncio.Task[None] | None = None

    async def hand_out(self, batch: Sequence[Waiting]) -> None:
        """Hand asks out, without the functions of their tools."""
        self.waiting = batch
        self.out.put_nowait(tuple(_without_functions(waiting.request) for waiting in batch))

    def hand_in(self, replies: Sequence[list[Reply]]) -> None:
        """Give the asks that wait their replies."""
        for waiting, answers in zip(self.waiting, replies, strict=True):
            waiting.replies.set_result(answers)


def _without_functions(request: Ask) -> Ask:
    return replace(request, tools=tuple(replace(tool, run=_not_here) for tool in request.tools))


class RayWorker:
    """One process of a ``RayWorkers``. Every method is called by Ray, from the driving process."""

    def __init__(self) -> None:
        self._job: Job | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._lines: dict[int, _Line] = {}

    async def take(self, job: Job) -> None:
        """Take a job; unfinished episodes of the previous one are dropped."""
        await self.drop()
        if self._pool is not None:
            self._pool.shutdown(wait=False)
        self._job, self._pool = job, ThreadPoolExecutor(job.limits.calls, thread_name_prefix="ferrule-call")

    async def begin(self, index: int, task: Task, sample: int) -> tuple[Ask, ...] | bytes:
        """Start an episode and return its first asks, or the episode."""
        line = self._lines[index] = _Line()
        line.playing = asyncio.ensure_future(self._play(index, task, sample, line))
        return await self._next(index)

    async def resume(self, index: int, replies: Sequence[list[Reply]]) -> tuple[Ask, ...] | bytes:
        """Give an episode its replies and return its next asks, or the episode."""
        self._lines[index].hand_in(replies)
        return await self._next(index)

    async def drop(self) -> None:
        """Drop all episodes and close their sessions."""
        lines, self._lines = list(self._lines.values()), {}
        playing = [line.playing for line in lines if line.playing is not None]
        for future in playing:
            future.cancel()
        await asyncio.gather(*playing, return_exceptions=True)

    async def close(self) -> None:
        """Drop all episodes before the process ends."""
        await self.drop()
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    @staticmethod
    def unpacked(step: bytes) -> Episode:
        """Return the episode that a worker sent."""
        return cast(Episode, pickle.loads(step))

    async def _next(self, index: int) -> tuple[Ask, ...] | bytes:
        step = await self._lines[index].out.get()
        if isinstance(step, tuple):
            return step
        del self._lines[index]
        if isinstance(step, BaseException):
            raise step
        return _packed(step)

    async def _play(self, index: int, task: Task, sample: int, line: _Line) -> None:
        """Play one episode; its asks, and then its record, go out on its line."""
        job, pool = self._job, self._pool
        assert job is not None
        assert pool is not None
        try:
            run = Run(job.agent, task, sample, job.world, job.seed, job.temperature)
            try:
                gather = Gather(1, line.hand_out)
                while run.pending:
                    await carry_out(run, index, job.policies, gather, pool, job.limits)
            except BaseException:
                run.give_up()
                raise
            line.out.put_nowait(run.close())
        except Exception as error:
            line.out.put_nowait(error)


def _packed(episode: Episode) -> bytes:
    """Pickle an episode; what a tool left in ``data`` and cannot be sent becomes what an episode file holds of it."""
    try:
        return pickle.dumps(episode)
    except (TypeError, ValueError, AttributeError, RecursionError, pickle.PicklingError):
        paths = tuple(
            replace(
                path,
                final=decode(encode(path.final)),
                turns=tuple(replace(t, observations=tuple(map(_sent, t.observations))) for t in path.turns),
            )
            for path in episode.trajectories
        )
        return pickle.dumps(replace(episode, trajectories=paths))


def _sent(observation: Observation) -> Observation:
    return replace(observation, data=decode(encode(observation.data)))
