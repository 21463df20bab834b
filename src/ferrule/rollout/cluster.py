"""The distributed driver: Ray workers on any number of machines play the episodes, models answer where they live.

A worker holds sessions, tools and interpreters and plays episodes with the state machine of ``rollout.drive``. Policies
that answer one ask at a time (``agenerate``: a server by URL) are asked by the workers themselves; all others answer
gathered batches in the process that drives, where their weights are. The records are those of ``adrive``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ferrule.core.flows import Agent, World
from ferrule.core.records import Task
from ferrule.rollout.cluster_worker import Job, RayWorker, sendable
from ferrule.rollout.drive import Gather, Limits, Policies, replies_to
from ferrule.rollout.enough import Enough
from ferrule.rollout.record import Episode, Recorder
from ferrule.rollout.run import episode_seed

__all__ = ["RayWorkers"]


class RayWorkers:
    """Ray workers that play episodes; ``drive`` and ``adrive`` take and return what the functions of that name do.

    Joins the Ray cluster that this process is connected to, else the one at ``address`` (None: ``RAY_ADDRESS``, else a
    cluster of this machine alone, which ends with ``close``). ``count`` processes of ``cpus`` logical cores each are
    kept until ``close``; None takes as many as the cluster has room for. ``Limits`` hold over all workers together.

    The episodes of a lost worker are played again from the start, with the same seeds, on another one. An episode that
    has lost ``retries`` workers is played once more when nothing else is; if that worker is lost as well it ends as
    data: finish ``error`` and a ``problem``. Raises ``RuntimeError`` when no worker starts within ``patience``
    seconds. World and agent must be importable or picklable. Needs ``pip install "ferrule[ray]"``.
    """

    def __init__(
        self,
        *,
        count: int | None = None,
        cpus: float = 1.0,
        retries: int = 2,
        patience: float = 120.0,
        address: str | None = None,
    ) -> None:
        if (count is not None and count < 1) or cpus <= 0 or retries < 1 or patience <= 0:
            raise ValueError(
                f"RayWorkers(count={count}, cpus={cpus}, retries={retries}, patience={patience}): count (unless None) "
                "and retries must be at least 1, cpus and patience above 0"
            )
        self.cpus, self.retries, self.patience = cpus, retries, patience
        self.lost = 0  # workers lost so far
        self._ray = _ray()
        self._mine = not self._ray.is_initialized()
        if self._mine:
            self._ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=30)
        room = int(self._ray.available_resources().get("CPU", 0) / cpus)
        self.count = count or max(room, 1)
        self._live: dict[Any, int] = {}  # workers that are ready, and how many episodes each plays
        self._starting: list[Any] = []
        self._starts: set[asyncio.Task[None]] = set()
        self._complete = False
        self._job: Any = None

    def __enter__(self) -> RayWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, and the cluster if this object started it; may be called twice."""
        live, self._live = list(self._live), {}
        starting, self._starting = self._starting, []
        if self._ray.is_initialized():
            for worker in starting:
                self._ray.kill(worker)
            closing = [worker.close.remote() for worker in live]
            for worker, ref in zip(live, closing, strict=True):
                with contextlib.suppress(self._ray.exceptions.RayError):  # a lost worker has nothing left to close
                    self._ray.get(ref, timeout=10)
                self._ray.kill(worker)
        if self._mine:
            self._mine = False
            self._ray.shutdown()

    def drive(
        self, agent: Agent, tasks: Sequence[Task], world: World, policy: Policies, **options: Any
    ) -> list[Episode]:
        """Play episodes as ``rollout.drive.drive`` does; ``options`` are its keywords."""
        return asyncio.run(self.adrive(agent, tasks, world, policy, **options))

    async def adrive(
        self,
        agent: Agent,
        tasks: Sequence[Task],
        world: World,
        policy: Policies,
        *,
        num_generations: int = 1,
        seed: int = 0,
        temperature: float | None = None,
        limits: Limits | None = None,
        done: Callable[[int, int], None] | None = None,
        take: Callable[[int, Episode], None] | None = None,
        enough: Enough | None = None,
    ) -> list[Episode]:
        """Play episodes on an event loop; arguments as in ``rollout.drive.drive``, but none is called off.

        Raises ``ValueError`` where ``enough`` is given.
        """
        if enough is not None:
            raise ValueError("episodes on Ray workers cannot be called off; leave Recipe.enough out, or Ray")
        limits = limits or Limits()
        todo = [(task, sample) for task in tasks for sample in range(num_generations)]
        if not todo:
            return []
        count = min(self.count, limits.calls)
        share, policies = replace(limits, calls=limits.calls // count), sendable(policy, self._ray.cloudpickle.dumps)
        self._job = self._ray.put(Job(agent, world, policies, seed, temperature, share))
        try:
            await self._bring_up(count)
            return await _Rollout(self, policy, todo, seed, done, take).play(min(limits.episodes, len(todo)))
        except BaseException:
            await self._drop()
            raise
        finally:
            self._job = None
            for start in self._starts:
                start.cancel()
            await asyncio.gather(*self._starts, return_exceptions=True)

    # ---------------------------------------------------------------------------------------------------------- workers

    async def _bring_up(self, count: int) -> None:
        """Give the job to the workers there are and start those that are missing; the first time all must start."""
        self._changed = asyncio.Event()
        for worker in list(self._live)[count:]:
            self._ray.kill(worker)
            del self._live[worker]
        await asyncio.gather(*(self._give_job(worker) for worker in list(self._live)))
        started, self._starting = self._starting[: count - len(self._live)], []
        for worker in started + [None] * (count - len(self._live) - len(started)):
            self._start(worker)
        starts = [] if self._complete and self._live else list(self._starts)
        if starts:
            await asyncio.wait(starts, timeout=self.patience)
        for start in starts:
            if start.done() and not start.cancelled() and (error := start.exception()) is not None:
                raise error
        if len(self._live) < (1 if self._complete else count):
            raise RuntimeError(
                f"{len(self._live)} of {count} workers started in {self.patience:g} s; each needs {self.cpus:g} CPU, "
                f"the cluster has {self._ray.available_resources().get('CPU', 0):g} free: ask for fewer workers"
            )
        self._complete = True

    async def _give_job(self, worker: Any) -> None:
        """Give the job to a worker of an earlier rollout, which may have been lost meanwhile."""
        try:
            await worker.take.remote(self._job)
            self._live[worker] = 0
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError:
            self.lose(worker, restart=False)

    def _start(self, worker: Any = None) -> None:
        """Start a worker (or go on with one that was starting); it counts as live once it has taken the job."""
        if worker is None:
            kind = self._ray.remote(RayWorker).options(
                num_cpus=self.cpus, max_restarts=0, max_concurrency=10_000, scheduling_strategy="SPREAD"
            )
            worker = kind.remote()

        async def begin() -> None:
            try:
                await worker.take.remote(self._job)
            except asyncio.CancelledError:
                self._starting.append(worker)
                raise
            except BaseException:
                self._ray.kill(worker)
                raise
            self._live[worker] = 0
            self._changed.set()

        start = asyncio.ensure_future(begin())
        self._starts.add(start)
        start.add_done_callback(
            lambda future: future.cancelled() or future.exception()
        )  # retrieved, so that asyncio does not warn
        start.add_done_callback(self._starts.discard)

    def lose(self, worker: Any, *, restart: bool = True) -> None:
        """Remove a worker that does not answer; its episodes will be played elsewhere."""
        if self._live.pop(worker, None) is None:
            return
        self.lost += 1
        self._ray.kill(worker)  # it may be cut off and still running
        if restart:
            self._start()

    async def take(self) -> Any:
        """Return the ready worker with the fewest episodes; waits for a new one when all are lost."""
        while not self._live:
            self._changed.clear()
            starts = list(self._starts)
            waiting = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait([waiting, *starts], timeout=self.patience, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
            if not self._live:
                raise RuntimeError(f"all {self.lost} workers were lost and no new one started in {self.patience:g} s")
        worker = min(self._live, key=self._live.__getitem__)
        self._live[worker] += 1
        return worker

    def put_back(self, worker: Any) -> None:
        """Count an episode of a worker as ended."""
        if worker in self._live:
            self._live[worker] -= 1

    async def _drop(self) -> None:
        """Let the workers give up their episodes and close the sessions."""
        refs = [worker.drop.remote() for worker in self._live]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*refs, return_exceptions=True), 10)


class _Rollout:
    """One call of ``RayWorkers.adrive``: which episodes are to be played, and who answers their asks."""

    def __init__(
        self,
        workers: RayWorkers,
        policies: Policies,
        todo: Sequence[tuple[Task, int]],
        seed: int,
        done: Callable[[int, int], None] | None,
        take: Callable[[int, Episode], None] | None,
    ) -> None:
        self.workers, self.policies, self.todo, self.seed, self.done, self.take = (
            workers,
            policies,
            todo,
            seed,
            done,
            take,
        )
        self.finished: dict[int, Episode] = {}
        self.errors = workers._ray.exceptions

    async def play(self, together: int) -> list[Episode]:
        """Play all episodes, ``together`` at once, and then one by one those that lost a worker too often."""
        gather, order = Gather(together), iter(range(len(self.todo)))
        suspects: list[int] = []

        async def work() -> None:
            for index in order:
                if not await self._try(index, gather, self.workers.retries):
                    suspects.append(index)
            gather.busy -= 1
            await gather.flush()

        running = [asyncio.ensure_future(work()) for _ in range(together)]
        try:
            await asyncio.gather(*running)
        finally:  # after an error the other episodes end as well
            for future in running:
                future.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        for index in sorted(suspects):
            if not await self._try(index, Gather(1), 1):
                self._keep(index, self._given_up(*self.todo[index]))
        return [self.finished[i] for i in range(len(self.todo))]

    def _keep(self, index: int, episode: Episode) -> None:
        self.finished[index] = episode
        if self.take:
            self.take(index, episode)
        if self.done:
            self.done(len(self.finished), len(self.todo))

    def _given_up(self, task: Task, sample: int) -> Episode:
        problem = f"the worker was lost {self.workers.retries + 1} times while it played this episode"
        seed = episode_seed(self.seed, task, sample)
        return Episode(task, sample, seed, Recorder(task).paths(None, "error", {}, problem), problem)

    async def _try(self, index: int, gather: Gather, times: int) -> bool:
        """Play one episode until it ends or has lost ``times`` workers; return whether it ended."""
        for _ in range(times):
            if not self.workers._live:  # while there is nobody to play on, the others need not wait for this episode
                gather.busy -= 1
                await gather.flush()
                worker = await self.workers.take()
                gather.busy += 1
            else:
                worker = await self.workers.take()
            try:
                self._keep(index, await self._on(worker, index, gather))
                return True
            except self.errors.RayTaskError:
                raise
            except self.errors.RayError:
                self.workers.lose(worker)
            finally:
                self.workers.put_back(worker)
        return False

    async def _on(self, worker: Any, index: int, gather: Gather) -> Episode:
        """Play one episode on a worker and answer what it asks."""
        step = await worker.begin.remote(index, *self.todo[index])
        while not isinstance(step, bytes):
            asked = [replies_to(ask, (index, slot), self.policies, gather) for slot, ask in enumerate(step)]
            step = await worker.resume.remote(index, await gather.side_by_side(asked))
        return RayWorker.unpacked(step)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError('RayWorkers needs Ray: pip install "ferrule[ray]"') from error
    return ray
