"""Drivers: advance many agent generators at once and carry out what they yield.

The batched driver (``drive``) and the asyncio driver (``adrive``) share one state machine per episode, so one agent
body leaves the same records under both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from ferrule.core.arrays import nearest
from ferrule.core.flows import Agent, Ask, Policy, Use, World
from ferrule.core.powers import require
from ferrule.core.records import Observation, Reply, Task
from ferrule.core.streams import Stream, Streaming
from ferrule.rollout.calls import At, Calls
from ferrule.rollout.enough import Enough, is_enough
from ferrule.rollout.record import Episode
from ferrule.rollout.run import Limits, Run, call_off, let_go, never_played, seed_of

__all__ = [
    "Gather",
    "Limits",
    "Policies",
    "Waiting",
    "adrive",
    "carry_out",
    "drive",
    "policy_for",
    "replies_to",
    "seed_of",
]

Policies = Policy | Mapping[str, Policy]


def policy_for(policies: Policies, role: str) -> Policy:
    """Return the policy that answers for a role (``KeyError`` naming the roles there are)."""
    if not isinstance(policies, Mapping):
        return policies
    if role not in policies:
        raise KeyError(f"no policy for role {role!r}; {nearest(role, list(policies))}")
    return policies[role]


def _groups(asks: Mapping[At, Ask], policies: Policies) -> list[tuple[Policy, list[At]]]:
    """Sort asks by the policy that answers them."""
    by_policy: dict[int, tuple[Policy, list[At]]] = {}
    for at, ask in asks.items():
        chosen = policy_for(policies, ask.role)
        by_policy.setdefault(id(chosen), (chosen, []))[1].append(at)
    return list(by_policy.values())


def _own_stream(policy: Any) -> bool:
    """Tell whether a policy's stream does what its ``generate`` does, and not what a replaced one did."""
    if "generate" in vars(policy) and "stream" not in vars(policy):
        return False
    owner = {name: next((c for c in type(policy).__mro__ if name in vars(c)), None) for name in ("generate", "stream")}
    return "stream" in vars(policy) or owner["generate"] is owner["stream"]


class _Asks:
    """Asks without an answer yet: policies that stream take them as they come, others get whole batches.

    Streams know an ask by the number ``slot * episodes + episode``.
    """

    def __init__(self, policies: Policies, limit: int, episodes: int) -> None:
        self._policies, self._limit, self._episodes = policies, limit, episodes
        self._streams: dict[int, Stream] = {}
        self._away: dict[At, int] = {}  # whose ask -> id of the policy that brings it on
        self._waiting: dict[At, Ask] = {}  # for a batch

    def __len__(self) -> int:
        return len(self._away)

    def begin(self, live: Mapping[int, Run], moved: set[int], more: bool) -> set[int]:
        """Hand over what episodes that moved ask, and return the episodes whose asks were answered at once.

        Batches wait until no ask can join them any more (``more``: something else goes on).
        """
        for i in moved:
            for slot, request in live[i].pending.items():
                if isinstance(request, Ask) and (i, slot) not in self._away:
                    self._waiting[i, slot] = request
        if not self._waiting:
            return set()
        asks = {at: self._waiting[at] for at in sorted(self._waiting)}
        answered: set[int] = set()
        for policy, places in _groups(asks, self._policies):
            require(policy, (asks[at] for at in places))
            if isinstance(policy, Streaming) and _own_stream(policy):
                stream = self._streams.setdefault(id(policy), policy.stream())
                self._away |= dict.fromkeys(places, id(policy))
                self._no_longer_waiting(places)
                stream.begin([(slot * self._episodes + i, asks[i, slot]) for i, slot in places])
            elif not more and not self._away:
                answers = policy.generate([asks[at] for at in places])
                self._no_longer_waiting(places)
                for (i, slot), replies in zip(places, answers, strict=True):
                    live[i].take(slot, replies, self._limit)
                    answered.add(i)
        return answered

    def _no_longer_waiting(self, places: Sequence[At]) -> None:
        for at in places:
            del self._waiting[at]

    def advance(self, live: Mapping[int, Run]) -> set[int]:
        """Bring streaming policies on by one step, hand their replies over, and return the episodes that got any."""
        answered = set()
        for key in sorted(set(self._away.values())):
            for number, replies in sorted(self._streams[key].advance(), key=lambda pair: pair[0]):
                slot, i = divmod(number, self._episodes)
                del self._away[i, slot]
                live[i].take(slot, replies, self._limit)
                answered.add(i)
        return answered

    def close(self) -> None:
        """Give up the asks that are still open."""
        for stream in self._streams.values():
            stream.close()


def drive(
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
    """Play ``num_generations`` episodes of every task and return them, the samples of a task side by side.

    With a policy that streams, replies, tool calls and what ``take`` does go on at the same time; other policies
    answer the asks of all live episodes in one batch per round. At most ``limits.calls`` calls run at once. ``policy``
    may map roles to policies. ``done(finished, total)`` reports progress; ``take(place, episode)`` is given every
    episode as it ends. When ``enough`` (``ferrule.rollout.enough``) says so, the rest is called off: those episodes end
    ``discarded`` (which ones depends on how quick tools and models were), and their calls are not waited for.
    """
    limits = limits or Limits()
    todo = [(task, sample) for task in tasks for sample in range(num_generations)]
    finished: dict[int, Episode] = {}
    live: dict[int, Run] = {}
    began, asks = 0, _Asks(policy, limits.turns, len(todo))
    moved: set[int] = set()  # episodes that may wait for something new, or have ended
    pool = ThreadPoolExecutor(limits.calls, thread_name_prefix="ferrule-call")
    calls, late = Calls(pool, limits.patience), list[Run]()
    try:
        while len(finished) < len(todo):
            while began < len(todo) and len(live) < limits.episodes:
                live[began] = Run(agent, *todo[began], world, seed, temperature)
                moved.add(began)
                began += 1
            _act(live, moved, calls, limits.turns)
            answered = asks.begin(live, moved, more=bool(calls))
            if asks:
                answered |= asks.advance(live)
            elif calls:
                answered |= _hand_over(live, calls.next(), limits.turns)
            ended = [i for i in sorted(moved | answered) if not live[i].pending]
            moved = answered.difference(ended)
            for index in ended:
                finished[index] = live.pop(index).close()
                if take:
                    take(index, finished[index])
                if done:
                    done(len(finished), len(todo))
            if ended and is_enough(enough, finished, len(tasks), num_generations):
                late = call_off(live, finished, todo, seed, take)
                if late and done:
                    done(len(finished), len(todo))
    finally:
        asks.close()
        for run in live.values():
            run.give_up()
        let_go(pool, late, behind=bool(late and calls))
    return [finished[i] for i in range(len(todo))]


def _act(live: Mapping[int, Run], moved: set[int], calls: Calls, limit: int) -> None:
    """Start the calls of episodes that moved and hand observations over, until none wants another call now.

    Episodes that observations bring on are added to ``moved``.
    """
    wanting = moved
    while True:
        for i in sorted(wanting):
            for slot, request in live[i].pending.items():
                if isinstance(request, Use) and (i, slot) not in calls:
                    calls.start((i, slot), [call.name for call in request.calls], live[i].acts(slot))
        results = calls.ready()
        if not results:
            return
        wanting = _hand_over(live, results, limit)
        moved |= wanting


def _hand_over(live: Mapping[int, Run], results: Sequence[tuple[At, Sequence[Observation]]], limit: int) -> set[int]:
    for (i, slot), observations in results:
        live[i].take(slot, observations, limit)
    return {i for (i, _), _ in results}


T = TypeVar("T")


@dataclass(frozen=True)
class Waiting:
    """An ask that waits for its batch, and where its replies go."""

    policy: Policy
    request: Ask
    replies: asyncio.Future[list[Reply]]


async def _by_policy(batch: Sequence[Waiting]) -> None:
    """Answer a batch, each policy's asks together; what a policy raises goes to those who asked it."""
    for policy in {id(waiting.policy): waiting.policy for waiting in batch}.values():
        asking = [waiting for waiting in batch if waiting.policy is policy]
        try:
            require(policy, (waiting.request for waiting in asking))
            answers = await asyncio.to_thread(policy.generate, [waiting.request for waiting in asking])
        except Exception as error:
            for waiting in asking:
                if not waiting.replies.done():
                    waiting.replies.set_exception(error)
            continue
        for waiting, replies in zip(asking, answers, strict=True):
            if not waiting.replies.done():
                waiting.replies.set_result(replies)


class Gather:
    """Collects asks of concurrent episodes for policies that answer in batches.

    A batch leaves when nothing else goes on that could still ask, in the order of episodes and slots, so batches do not
    depend on how the event loop happens to interleave. ``busy`` counts what goes on: episodes, and the requests of an
    episode that waits for several. ``answer`` is given each batch.
    """

    def __init__(self, busy: int, answer: Callable[[Sequence[Waiting]], Awaitable[None]] = _by_policy) -> None:
        self.busy = busy
        self._answer = answer
        self._waiting: dict[At, Waiting] = {}

    async def ask(self, at: At, policy: Policy, request: Ask) -> list[Reply]:
        """Wait for the batch that answers this ask."""
        waiting = Waiting(policy, request, asyncio.get_running_loop().create_future())
        self._waiting[at] = waiting
        self.busy -= 1
        await self.flush()
        return await waiting.replies

    async def flush(self) -> None:
        """Send the collected asks off when nobody else could still join them."""
        if self.busy or not self._waiting:
            return
        batch = [self._waiting[at] for at in sorted(self._waiting)]
        self._waiting = {}
        self.busy += len(batch)
        await self._answer(batch)

    async def side_by_side(self, parts: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Do at the same time what one episode waits for; each part counts as busy until it is done or asks."""
        if len(parts) == 1:
            return [await parts[0]]
        self.busy += len(parts) - 1
        left = len(parts)

        async def done(part: Coroutine[Any, Any, T]) -> T:
            nonlocal left
            result = await part
            left -= 1
            if left:  # the last one goes on as the episode
                self.busy -= 1
                await self.flush()
            return result

        running = [asyncio.ensure_future(done(part)) for part in parts]
        try:
            return list(await asyncio.gather(*running))
        finally:  # after an error the other parts end as well
            for future in running:
                future.cancel()


async def adrive(
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
    """Play the same episodes on an event loop, each at its own pace; arguments as in ``drive``.

    Policies with ``agenerate(ask)`` are asked one by one, others in batches. Calls of episodes that are called off are
    waited for.
    """
    limits = limits or Limits()
    todo = [(task, sample) for task in tasks for sample in range(num_generations)]
    workers = min(limits.episodes, len(todo))
    gather = Gather(workers)
    order, over = iter(range(len(todo))), False
    finished: dict[int, Episode] = {}

    async def play(index: int, pool: ThreadPoolExecutor) -> Episode:
        if over:
            return never_played(*todo[index], seed)
        run = Run(agent, *todo[index], world, seed, temperature)
        try:
            while run.pending and not over:
                await carry_out(run, index, policy, gather, pool, limits)
        except BaseException:
            run.give_up()
            raise
        return run.call_off(close=True) if run.pending else run.close()

    async def work(pool: ThreadPoolExecutor) -> None:
        """Play one episode after another: the place of an episode that ended is taken before the next batch leaves."""
        nonlocal over
        for index in order:
            finished[index] = await play(index, pool)
            over = over or is_enough(enough, finished, len(tasks), num_generations)
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
            for future in running:
                future.cancel()
            await asyncio.gather(*running, return_exceptions=True)
    return [finished[i] for i in range(len(todo))]


async def replies_to(request: Ask, at: At, policies: Policies, gather: Gather) -> list[Reply]:
    """Return the replies to one ask: from a policy that answers single asks, else from the gathered batch."""
    chosen = policy_for(policies, request.role)
    if hasattr(chosen, "agenerate"):
        require(chosen, [request])
        return list(await chosen.agenerate(request))
    return await gather.ask(at, chosen, request)


async def carry_out(
    run: Run, index: int, policies: Policies, gather: Gather, pool: ThreadPoolExecutor, limits: Limits
) -> None:
    """Carry out what one episode waits for, all of it at the same time."""
    loop = asyncio.get_running_loop()

    async def results_of(slot: int, request: Ask | Use) -> Sequence[Any]:
        if isinstance(request, Ask):
            return await replies_to(request, (index, slot), policies, gather)
        lanes = await asyncio.gather(*(loop.run_in_executor(pool, lane) for lane in run.acts(slot)))
        return [observation for lane in lanes for observation in lane]

    slots = list(run.pending)
    for slot, results in zip(
        slots, await gather.side_by_side([results_of(*pair) for pair in run.pending.items()]), strict=True
    ):
        run.take(slot, results, limits.turns)
