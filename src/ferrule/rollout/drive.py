"""Drivers: advance many agent generators at once and carry out what they yield.

The batched driver (``drive``) and the asyncio driver (``adrive``) share one state machine per episode, so one agent
body leaves the same records under both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.records import (
    Agent,
    Ask,
    Observation,
    Policy,
    Reply,
    Task,
    Use,
    World,
)
from ferrule.core.streams import Stream, Streaming
from ferrule.rollout.calls import Calls
from ferrule.rollout.record import Episode
from ferrule.rollout.run import Limits, Run, seed_of

__all__ = ["Gather", "Limits", "Policies", "adrive", "carry_out", "drive", "policy_for", "seed_of"]

Policies = Policy | Mapping[str, Policy]


def policy_for(policies: Policies, role: str) -> Policy:
    """Return the policy that answers for a role (``KeyError`` naming the roles there are)."""
    if not isinstance(policies, Mapping):
        return policies
    if role not in policies:
        raise KeyError(f"no policy for role {role!r}; {nearest(role, list(policies))}")
    return policies[role]


def _groups(asking: Mapping[int, Run], policies: Policies) -> list[tuple[Policy, list[int]]]:
    """Sort episodes that ask by the policy they ask."""
    by_policy: dict[int, tuple[Policy, list[int]]] = {}
    for i, run in asking.items():
        assert isinstance(run.pending, Ask)
        chosen = policy_for(policies, run.pending.role)
        by_policy.setdefault(id(chosen), (chosen, []))[1].append(i)
    return list(by_policy.values())


def _own_stream(policy: Any) -> bool:
    """Tell whether a policy's stream does what its ``generate`` does, and not what a replaced one did."""
    if "generate" in vars(policy) and "stream" not in vars(policy):
        return False
    owner = {name: next((c for c in type(policy).__mro__ if name in vars(c)), None) for name in ("generate", "stream")}
    return "stream" in vars(policy) or owner["generate"] is owner["stream"]


class _Asks:
    """Asks on their way: policies that stream take them as they come, others get whole batches."""

    def __init__(self, policies: Policies, limit: int) -> None:
        self._policies, self._limit = policies, limit
        self._streams: dict[int, Stream] = {}
        self._away: dict[int, int] = {}  # episode -> id of the policy that brings it on

    def __len__(self) -> int:
        return len(self._away)

    def begin(self, live: Mapping[int, Run], more: bool) -> None:
        """Hand over new asks. Batches wait until no ask can join them any more (``more``: something else goes on)."""
        asking = {i: run for i, run in live.items() if isinstance(run.pending, Ask) and i not in self._away}
        for policy, episodes in _groups(asking, self._policies):
            asks = [(i, run.pending) for i in episodes if isinstance((run := live[i]).pending, Ask)]
            if isinstance(policy, Streaming) and _own_stream(policy):
                stream = self._streams.setdefault(id(policy), policy.stream())
                self._away |= dict.fromkeys(episodes, id(policy))
                stream.begin(asks)
            elif not more and not self._away:
                for i, replies in zip(episodes, policy.generate([ask for _, ask in asks]), strict=True):
                    live[i].take_replies(replies, self._limit)

    def advance(self, live: Mapping[int, Run]) -> None:
        """Bring streaming policies on by one step and hand their replies over."""
        for key in sorted(set(self._away.values())):
            for i, replies in sorted(self._streams[key].advance()):
                del self._away[i]
                live[i].take_replies(replies, self._limit)

    def close(self) -> None:
        """Give up what is on its way."""
        for stream in self._streams.values():
            stream.close()


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
    take: Callable[[int, Episode], None] | None = None,
) -> list[Episode]:
    """Play ``samples`` episodes of every task and return them, the samples of a task side by side.

    With a policy that streams, replies, tool calls and what ``take`` does go on at the same time; other policies
    answer the asks of all live episodes in one batch per round. At most ``limits.calls`` calls run at once. ``policy``
    may map roles to policies. ``done(finished, total)`` reports progress; ``take(place, episode)`` is given every
    episode as it ends.
    """
    limits = limits or Limits()
    todo = [(task, sample) for task in tasks for sample in range(samples)]
    finished: dict[int, Episode] = {}
    live: dict[int, Run] = {}
    began, asks = 0, _Asks(policy, limits.turns)
    with ThreadPoolExecutor(limits.calls, thread_name_prefix="ferrule-call") as pool:
        calls = Calls(pool, limits.patience)
        try:
            while len(finished) < len(todo):
                while began < len(todo) and len(live) < limits.episodes:
                    live[began] = Run(agent, *todo[began], world, seed, temperature)
                    began += 1
                _act(live, calls, limits.turns)
                asks.begin(live, more=bool(calls))
                if asks:
                    asks.advance(live)
                elif calls:
                    _hand_over(live, calls.next(), limits.turns)
                for index in [i for i, run in live.items() if run.pending is None]:
                    finished[index] = live.pop(index).close()
                    if take:
                        take(index, finished[index])
                    if done:
                        done(len(finished), len(todo))
        finally:
            asks.close()
            for run in live.values():
                run.give_up()
    return [finished[i] for i in range(len(todo))]


def _act(live: Mapping[int, Run], calls: Calls, limit: int) -> None:
    """Start new calls and hand observations over, until no episode wants another call now."""
    while True:
        for i, run in live.items():
            if isinstance(run.pending, Use) and i not in calls:
                calls.start(i, [call.name for call in run.pending.calls], run.acts())
        back = calls.ready()
        if not back:
            return
        _hand_over(live, back, limit)


def _hand_over(live: Mapping[int, Run], back: Sequence[tuple[int, Sequence[Observation]]], limit: int) -> None:
    for i, observations in back:
        live[i].take_observations(observations, limit)


class Gather:
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
    take: Callable[[int, Episode], None] | None = None,
) -> list[Episode]:
    """Play the same episodes on an event loop, each at its own pace; arguments as in ``drive``.

    Policies with ``agenerate(ask)`` are asked one by one as episodes get there, others through gathered batches.
    """
    limits = limits or Limits()
    todo = [(task, sample) for task in tasks for sample in range(samples)]
    workers = min(limits.episodes, len(todo))
    gather = Gather(workers)
    order = iter(range(len(todo)))
    finished: dict[int, Episode] = {}

    async def play(index: int, pool: ThreadPoolExecutor) -> Episode:
        run = Run(agent, *todo[index], world, seed, temperature)
        try:
            while run.pending is not None:
                await carry_out(run, index, policy, gather, pool, limits)
        except BaseException:
            run.give_up()
            raise
        return run.close()

    async def work(pool: ThreadPoolExecutor) -> None:
        """Play one episode after another: the place of an episode that ended is taken before the next batch leaves."""
        for index in order:
            finished[index] = await play(index, pool)
            if take:
                take(index, finished[index])
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


async def carry_out(
    run: Run, index: int, policies: Policies, gather: Gather, pool: ThreadPoolExecutor, limits: Limits
) -> None:
    """Carry out what one episode waits for."""
    request = run.pending
    if isinstance(request, Ask):
        chosen = policy_for(policies, request.role)
        if hasattr(chosen, "agenerate"):
            replies = list(await chosen.agenerate(request))
        else:
            replies = await gather.ask(index, chosen, request)
        run.take_replies(replies, limits.turns)
    elif isinstance(request, Use):
        loop = asyncio.get_running_loop()
        acts = [loop.run_in_executor(pool, call) for call in run.acts()]
        run.take_observations(await asyncio.gather(*acts), limits.turns)
