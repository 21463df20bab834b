"""Drivers: advance many agent generators at once and carry out what they yield.

The batched driver (``drive``) and the asyncio driver (``adrive``) share one state machine per episode, so one agent
body leaves the same records under both.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.records import (
    Agent,
    Answer,
    Ask,
    Finish,
    Observation,
    Place,
    Policy,
    Reply,
    Task,
    Use,
    World,
    act,
)
from ferrule.rollout.record import Episode, Recorder

__all__ = ["Limits", "adrive", "drive", "seed_of"]

Policies = Policy | Mapping[str, Policy]


@dataclass(frozen=True)
class Limits:
    """Bounds of a rollout: episodes alive at once, tool calls at once, and model turns of one episode.

    ``turns`` bounds the rounds of tool calls that follow each other without a model turn as well.
    """

    episodes: int = 256
    calls: int = 16
    turns: int = 64


def seed_of(*parts: object) -> int:
    """Return a 63-bit seed that depends on all parts and nothing else."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class _Run:
    """The state machine of one episode: a generator, its session, and its recorder."""

    def __init__(
        self, agent: Agent, task: Task, sample: int, world: World, seed: int, temperature: float | None
    ) -> None:
        self.task, self.sample, self.seed = task, sample, seed_of(seed, task.id, task.meta.get("pass", 0), sample)
        self.temperature = temperature
        self.session = world.start(task, self.seed)
        self.recorder = Recorder(task)
        self.asked = self.used = self.made = 0
        self.pending: Ask | Use | None = None
        self.parent: int | None = None
        self.answer: Answer = None
        self.finish: Finish = "answer"
        self.problem = ""
        self.began = time.perf_counter()
        self._flow: Any = None
        self._begin(agent)

    def _begin(self, agent: Agent) -> None:
        try:
            self._flow = agent(self.task, self.session)
        except Exception as error:
            self._fail(f"agent raised {type(error).__name__}: {error}")
            return
        if hasattr(self._flow, "send"):
            self.advance(None)
        else:
            self._fail(f"agent returned {type(self._flow).__name__}; an agent is a generator that yields Ask or Use")

    def advance(self, value: Any) -> None:
        """Send a value into the agent and keep what it yields next; an exception ends the episode as data."""
        self.pending = None
        try:
            request: object = self._flow.send(value)
        except StopIteration as stop:
            self.answer = stop.value if stop.value is None else str(stop.value)
            self.finish = self._ending()
            return
        except Exception as error:
            self._fail(f"agent raised {type(error).__name__}: {error}")
            return
        if isinstance(request, Ask):
            request = replace(
                request,
                seed=seed_of(self.seed, self.asked),
                temperature=self.temperature if request.temperature is None else request.temperature,
            )
            self.asked, self.used, self.made = self.asked + 1, 0, 0
            self.pending, self.parent = self.recorder.extend(request)
        elif isinstance(request, Use):
            self.used += 1
            self.pending = request
        else:
            self._fail(f"agent yielded {type(request).__name__}; an agent may yield Ask or Use")

    def _ending(self) -> Finish:
        if self.answer is not None:
            return "answer"
        last = self.recorder.turns[-1].finish if self.recorder.turns else "stop"
        return last if last in ("length", "cancelled", "error") else "turns"

    def _fail(self, problem: str) -> None:
        self.pending, self.answer, self.finish, self.problem = None, None, "error", problem
        with contextlib.suppress(Exception):  # a generator may raise while it is closed; there is nobody to tell
            self._flow.close()

    def take_replies(self, replies: Sequence[Reply], limit: int) -> None:
        """Record the replies to the pending ask and hand them to the agent."""
        request = self.pending
        assert isinstance(request, Ask)
        if len(replies) != request.n:
            raise ValueError(f"the policy gave {len(replies)} replies to an ask for {request.n}")
        for reply in replies:
            self.recorder.add(request, self.parent, reply)
        if self.recorder.drifted:
            self._fail("token ids were not append-only")
            self.finish = "drift"
        elif max(len(self.recorder.turns), self.asked) > limit:
            self._fail(f"more than {limit} model turns")
            self.finish = "turns"
        else:
            self.advance(tuple(replies))

    def take_observations(self, observations: Sequence[Observation], limit: int) -> None:
        """Record the observations of the pending calls and hand them to the agent."""
        request = self.pending
        assert isinstance(request, Use)
        self.recorder.observe(zip(request.calls, observations, strict=True))
        if self.used > limit:
            self._fail(f"more than {limit} rounds of tool calls without a model turn")
            self.finish = "turns"
        else:
            self.advance(tuple(observations))

    def acts(self) -> list[Callable[[], Observation]]:
        """Return one function for each pending call, which runs it; whatever goes wrong is an observation."""
        request = self.pending
        assert isinstance(request, Use)
        first, self.made = self.made, self.made + len(request.calls)
        return [partial(act, self.session, call, Place(self.asked, first + i)) for i, call in enumerate(request.calls)]

    def close(self) -> Episode:
        """Close the session and return the record."""
        try:
            final = dict(self.session.final()) if not self.problem else {}
        except Exception as error:
            final, self.problem = {}, f"session.final raised {type(error).__name__}: {error}"
        try:
            self.session.close()
        except Exception as error:
            self.problem = self.problem or f"session.close raised {type(error).__name__}: {error}"
        trajectories = self.recorder.paths(self.answer, self.finish, final, self.problem)
        seconds = time.perf_counter() - self.began
        return Episode(self.task, self.sample, self.seed, trajectories, self.problem, self.recorder.drifted, seconds)


def _policy_for(policies: Policies, role: str) -> Policy:
    if not isinstance(policies, Mapping):
        return policies
    if role not in policies:
        raise KeyError(f"no policy for role {role!r}; {nearest(role, list(policies))}")
    return policies[role]


def _answer_asks(runs: Sequence[_Run], policies: Policies, limit: int) -> None:
    """Gather the pending asks by policy into one ``generate`` each, and hand the replies back."""
    by_policy: dict[int, tuple[Policy, list[_Run]]] = {}
    for run in runs:
        assert isinstance(run.pending, Ask)
        chosen = _policy_for(policies, run.pending.role)
        by_policy.setdefault(id(chosen), (chosen, []))[1].append(run)
    for chosen, asking in by_policy.values():
        replies = chosen.generate([run.pending for run in asking if isinstance(run.pending, Ask)])
        for run, answered in zip(asking, replies, strict=True):
            run.take_replies(answered, limit)


def drive(
    agent: Agent,
    tasks: Sequence[Task],
    world: World,
    policy: Policies,
    *,
    samples: int = 1,
    seed: int = 0,
    temperature: float | None = None,
    limits: Limits | None = None,
    done: Callable[[int, int], None] | None = None,
) -> list[Episode]:
    """Play ``samples`` episodes of every task and return them, the samples of a task side by side.

    Asks of all live episodes are answered in one batch per round; the calls of a round run at the same time, at most
    ``limits.calls`` of them. ``policy`` may map roles to policies. ``done(finished, total)`` reports progress.
    """
    limits = limits or Limits()
    todo = [(task, sample) for task in tasks for sample in range(samples)]
    finished: dict[int, Episode] = {}
    live: dict[int, _Run] = {}
    began = 0
    with ThreadPoolExecutor(limits.calls, thread_name_prefix="ferrule-call") as pool:
        try:
            while len(finished) < len(todo):
                while began < len(todo) and len(live) < limits.episodes:
                    live[began] = _Run(agent, *todo[began], world, seed, temperature)
                    began += 1
                _act_all([run for run in live.values() if isinstance(run.pending, Use)], pool, limits.turns)
                asking = [run for run in live.values() if isinstance(run.pending, Ask)]
                if asking:
                    _answer_asks(asking, policy, limits.turns)
                for index in [i for i, run in live.items() if run.pending is None]:
                    finished[index] = live.pop(index).close()
                    if done:
                        done(len(finished), len(todo))
        finally:
            for run in live.values():
                with contextlib.suppress(Exception):  # whatever ended the run is what the caller should see
                    run.session.close()
    return [finished[i] for i in range(len(todo))]


def _act_all(runs: Sequence[_Run], pool: ThreadPoolExecutor, limit: int) -> None:
    futures = []
    for run in runs:
        futures.append([pool.submit(call) for call in run.acts()])
    for run, waiting in zip(runs, futures, strict=True):
        run.take_observations([future.result() for future in waiting], limit)


class _Gather:
    """Collects asks of concurrent episodes for policies that answer in batches.

    A batch leaves when no episode is busy with anything else, in the order of the episodes, so batches do not depend
    on how the event loop happens to interleave. ``busy`` counts the episodes that could still join.
    """

    def __init__(self, busy: int) -> None:
        self.busy = busy
        self._waiting: dict[int, tuple[Policy, Ask, asyncio.Future[list[Reply]]]] = {}

    async def ask(self, index: int, policy: Policy, request: Ask) -> list[Reply]:
        """Wait for the batch that answers this ask."""
        future: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        self._waiting[index] = (policy, request, future)
        self.busy -= 1
        await self.flush()
        return await future

    async def flush(self) -> None:
        """Send the collected asks off when nobody else could still join them."""
        if self.busy or not self._waiting:
            return
        batch = [self._waiting[i] for i in sorted(self._waiting)]
        self._waiting = {}
        self.busy += len(batch)
        for policy in {id(policy): policy for policy, _, _ in batch}.values():
            own = [(request, future) for chosen, request, future in batch if chosen is policy]
            try:
                answers = await asyncio.to_thread(policy.generate, [request for request, _ in own])
            except Exception as error:
                for _, future in own:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), replies in zip(own, answers, strict=True):
                if not future.done():
                    future.set_result(replies)


async def adrive(
    agent: Agent,
    tasks: Sequence[Task],
    world: World,
    policy: Policies,
    *,
    samples: int = 1,
    seed: int = 0,
    temperature: float | None = None,
    limits: Limits | None = None,
    done: Callable[[int, int], None] | None = None,
) -> list[Episode]:
    """Play the same episodes on an event loop, each at its own pace; arguments as in ``drive``.

    Policies with ``agenerate(ask)`` are asked one by one as episodes get there, others through gathered batches.
    """
    limits = limits or Limits()
    todo = [(task, sample) for task in tasks for sample in range(samples)]
    workers = min(limits.episodes, len(todo))
    gather = _Gather(workers)
    order = iter(range(len(todo)))
    finished: dict[int, Episode] = {}

    async def play(index: int, pool: ThreadPoolExecutor) -> Episode:
        run = _Run(agent, *todo[index], world, seed, temperature)
        try:
            while run.pending is not None:
                await _carry_out(run, index, policy, gather, pool, limits)
        except BaseException:
            with contextlib.suppress(Exception):
                run.session.close()
            raise
        return run.close()

    async def work(pool: ThreadPoolExecutor) -> None:
        """Play one episode after another: the place of an episode that ended is taken before the next batch leaves."""
        for index in order:
            finished[index] = await play(index, pool)
            if done:
                done(len(finished), len(todo))
        gather.busy -= 1
        await gather.flush()

    with ThreadPoolExecutor(limits.calls, thread_name_prefix="ferrule-call") as pool:
        running = [asyncio.ensure_future(work(pool)) for _ in range(workers)]
        try:
            await asyncio.gather(*running)
        finally:  # after an error the other episodes end as well, and their sessions are closed
            for one in running:
                one.cancel()
            await asyncio.gather(*running, return_exceptions=True)
    return [finished[i] for i in range(len(todo))]


async def _carry_out(
    run: _Run, index: int, policies: Policies, gather: _Gather, pool: ThreadPoolExecutor, limits: Limits
) -> None:
    """Carry out what one episode waits for."""
    request = run.pending
    if isinstance(request, Ask):
        chosen = _policy_for(policies, request.role)
        if hasattr(chosen, "agenerate"):
            replies = list(await chosen.agenerate(request))
        else:
            replies = await gather.ask(index, chosen, request)
        run.take_replies(replies, limits.turns)
    elif isinstance(request, Use):
        loop = asyncio.get_running_loop()
        acts = [loop.run_in_executor(pool, call) for call in run.acts()]
        run.take_observations(await asyncio.gather(*acts), limits.turns)
