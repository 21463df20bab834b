"""What waiting for each other costs: lock-step rollouts against trajectories at their own pace, on waits alone.

Models and tools only wait here, for drawn times; the drivers that run them are the real ones. Source: "VerlTool:
Towards Holistic Agentic Reinforcement Learning with Tool Use" (24).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ferrule.agents.action import ActionLoop
from ferrule.core.flows import Ask, Session
from ferrule.core.records import Call, Message, Reply, Task, Tool
from ferrule.rollout.drive import Limits, adrive, drive, seed_of
from ferrule.rollout.record import Episode
from ferrule.tools.budget import Budget
from ferrule.worlds.session import ToolSession

__all__ = [
    "Law", "Times", "Waiting", "WaitingWorld", "asynchronous_seconds", "exponential", "heavy", "lock_step_seconds",
    "race",
]  # fmt: skip

_KEY = {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}
Law: TypeAlias = Callable[[random.Random], float]
Times: TypeAlias = Sequence[Sequence[tuple[float, float]]]
"""For every trajectory its turns as ``(generating, acting)`` seconds."""


def lock_step_seconds(times: Times) -> float:
    """Wall time (seconds) of rounds that wait for the slowest: ``sum_k (max_n g[n, k] + max_n t[n, k])``."""
    rounds = max((len(row) for row in times), default=0)
    live = [[row[k] for row in times if k < len(row)] for k in range(rounds)]
    return sum(max(g for g, _ in turn) + max(t for _, t in turn) for turn in live)


def asynchronous_seconds(times: Times) -> float:
    """Wall time (seconds) when every trajectory goes at its own pace: ``max_n sum_k (g[n, k] + t[n, k])``."""
    return max((sum(g + t for g, t in row) for row in times), default=0.0)


def exponential(rng: random.Random) -> float:
    """Draw from the exponential law of mean 1."""
    return rng.expovariate(1.0)


def heavy(rng: random.Random) -> float:
    """Draw from the Lomax law of mean 1 with tail index 2 (infinite variance): ``u ** (-1 / 2) - 1``."""
    return float((1.0 - rng.random()) ** -0.5 - 1.0)


def reply_seconds(seed: int, mean: float) -> float:
    """Return the time that the reply to the ask of this seed takes."""
    return mean * exponential(random.Random(f"reply/{seed}"))


@dataclass(frozen=True)
class Waiting:
    """A model that waits and then says something that depends on the ask's seed alone: ``turns`` calls, an answer.

    A batch takes as long as its slowest reply, as on a server without a limit; single asks wait side by side.
    """

    turns: int
    mean: float

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        """Answer a batch after its slowest reply."""
        time.sleep(max(reply_seconds(ask.seed, self.mean) for ask in asks))
        return [[self._reply(ask)] for ask in asks]

    async def agenerate(self, ask: Ask) -> list[Reply]:
        """Answer one ask after its own time."""
        await asyncio.sleep(reply_seconds(ask.seed, self.mean))
        return [self._reply(ask)]

    def _reply(self, ask: Ask) -> Reply:
        rng = random.Random(f"ids/{ask.seed}")
        sampled = tuple(rng.randrange(1000) for _ in range(4))
        shown = tuple(len(message.role) for message in ask.messages[ask.fresh :])
        replies = sum(message.role == "assistant" for message in ask.messages)
        calls = (Call("wait", {"key": str(ask.seed)}, id="call_0"),) if replies < self.turns else ()
        message = Message("assistant", str(rng.random()), calls=calls)
        return Reply(message, given=(*ask.context, *shown), sampled=sampled, logps=(0.0,) * len(sampled))


def call_seconds(key: str, law: Law, mean: float) -> float:
    """Return the time that the call with this argument takes."""
    return mean * law(random.Random(f"call/{key}"))


@dataclass(frozen=True)
class WaitingWorld:
    """A world whose only tool waits, for times drawn from ``law`` (mean 1) times ``mean`` seconds.

    An episode has at most ``turns`` calls.
    """

    law: Law
    mean: float
    turns: int = 6
    name: str = "waiting"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return ``count`` tasks without content."""
        return [Task(f"{split}/{seed}/{i}", f"wait ({split} {seed}, {i})", None, world=self.name) for i in range(count)]

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session whose tool waits for a time drawn from its argument."""

        def wait(key: str) -> str:
            time.sleep(call_seconds(key, self.law, self.mean))
            return f"waited for {key}"

        tool = Tool("wait", "wait a while", _KEY, run=wait, seconds=600.0)
        return ToolSession(task, lambda _: (tool,), budget=Budget(total=self.turns))


def race(law: Law, turns: int, *, seed: int, trajectories: int, mean: float) -> dict[str, float]:
    """Play the same trajectories under both schedules and say whether they are equal (``same``).

    ``lock-step`` and ``asynchronous`` are wall times, ``least lock-step`` and ``least asynchronous`` what the drawn
    times alone make of them, without any overhead (seconds).
    """
    world, policy = WaitingWorld(law, mean, turns), Waiting(turns, mean)
    agent, tasks = ActionLoop(turns=turns), world.tasks("train", trajectories, seed=seed)
    more: dict[str, Any] = {"seed": seed, "limits": Limits(episodes=trajectories, calls=trajectories)}
    began = time.perf_counter()
    locked = drive(agent, tasks, world, policy, **more)
    between = time.perf_counter()
    free = asyncio.run(adrive(agent, tasks, world, policy, **more))
    ended = time.perf_counter()
    times = [_times(episode, law, mean) for episode in locked]
    return {
        "lock-step": between - began,
        "asynchronous": ended - between,
        "least lock-step": lock_step_seconds(times),
        "least asynchronous": asynchronous_seconds(times),
        "same": float(locked == free and all(len(episode.trajectories[0].turns) == turns + 1 for episode in locked)),
    }


def _times(episode: Episode, law: Law, mean: float) -> list[tuple[float, float]]:
    """The drawn times of an episode's turns; a reply's seed is what its call names, and the last calls nothing."""
    return [
        (
            reply_seconds(seed_of(episode.seed, k), mean),
            sum(call_seconds(call.arguments["key"], law, mean) for call in turn.reply.calls),
        )
        for k, turn in enumerate(episode.trajectories[0].turns)
    ]
