"""The claim's two measurements: schedules over waiting models and tools, and training with and without the mask."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferrule.core.arrays import IntArray, pack
from ferrule.core.records import Ask, Call, Message, Reply, Score, Session, Task, Tool
from ferrule.evaluate.metrics import student_interval
from ferrule.papers.verltool.loop import ActionLoop, asynchronous_seconds, lock_step_seconds
from ferrule.rollout.drive import Limits, adrive, drive, seed_of
from ferrule.rollout.record import Episode
from ferrule.studies.old import at_least, conclude, describe, over_seeds, scale_of
from ferrule.studies.paper import Claim
from ferrule.tools.budget import Budget
from ferrule.worlds.session import ToolSession

__all__ = ["Waiting", "WaitingWorld", "learn", "measure", "race"]

MEAN = 0.05
"""Mean time of one reply and of one call, in seconds."""
TURNS = (1, 3, 6)
_KEY = {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}
Law = Callable[[random.Random], float]


def exponential(rng: random.Random) -> float:
    """Draw from the exponential law of mean 1."""
    return rng.expovariate(1.0)


def heavy(rng: random.Random) -> float:
    """Draw from the Lomax law of mean 1 with tail index 2 (infinite variance): ``u ** (-1 / 2) - 1``."""
    return float((1.0 - rng.random()) ** -0.5 - 1.0)


SETTINGS: Mapping[str, Law] = {"exponential": exponential, "heavy tail": heavy}
"""Law of the tool's times by setting; replies take exponential times in both."""
SCALES: Mapping[str, Mapping[str, Any]] = {
    "small": {"trajectories": 64, "mean": MEAN, "tasks": 32, "steps": 12},
    "tiny": {"trajectories": 6, "mean": 0.002, "tasks": 16, "steps": 2},
}
"""Trajectories and mean times of a race; tasks and steps of the training, by scale."""


def reply_seconds(seed: int, mean: float) -> float:
    """Return the time that the reply to the ask of this seed takes."""
    return mean * exponential(random.Random(f"reply/{seed}"))


@dataclass(frozen=True)
class Waiting:
    """A model that waits and then says something that depends on the ask's seed alone: ``turns`` calls, an answer.

    A batch takes as long as its slowest reply, as on a server without a limit; single asks wait side by side.
    """

    turns: int
    mean: float = MEAN

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
        said = sum(message.role == "assistant" for message in ask.messages)
        calls = (Call("wait", {"key": str(ask.seed)}, id="call_0"),) if said < self.turns else ()
        message = Message("assistant", str(rng.random()), calls=calls)
        return Reply(message, given=(*ask.context, *shown), sampled=sampled, logps=(0.0,) * len(sampled))


def call_seconds(key: str, law: Law, mean: float) -> float:
    """Return the time that the call with this argument takes."""
    return mean * law(random.Random(f"call/{key}"))


@dataclass(frozen=True)
class WaitingWorld:
    """A world whose only tool waits, for times drawn from ``law`` (mean 1) times ``mean`` seconds."""

    law: Law
    mean: float
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
        return ToolSession(task, lambda _: (tool,), budget=Budget(total=max(TURNS)))


def race(law: Law, turns: int, *, seed: int, trajectories: int, mean: float) -> dict[str, float]:
    """Play the same trajectories under both schedules; return their wall times (seconds) and whether they are equal.

    ``bound`` is the ratio that the drawn times alone give, without any overhead.
    """
    world, policy = WaitingWorld(law, mean), Waiting(turns, mean)
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
        "ratio": (between - began) / (ended - between),
        "bound": lock_step_seconds(times) / asynchronous_seconds(times),
        "same": float(locked == free and all(len(e.trajectories[0].turns) == turns + 1 for e in locked)),
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


# ------------------------------------------------------------------------------------------------- observation mask


def _observed(ids_NT: IntArray, turn_NT: IntArray) -> IntArray:
    """Mark observation tokens: what stands between a row's model tokens without being one; -1 elsewhere."""
    mine = turn_NT >= 0
    started = np.maximum.accumulate(mine, axis=1)
    ahead = np.maximum.accumulate(mine[:, ::-1], axis=1)[:, ::-1]
    return np.where(started & ahead & ~mine & (ids_NT >= 0), 0, -1)


def _played(policy: Any, world: Any, tasks: Sequence[Task], seed: int) -> tuple[IntArray, IntArray]:
    """Roll out tasks and return ids and turn index of the episodes in which a tool was used."""
    from ferrule.agents.react import ToolLoop

    episodes = drive(ToolLoop(turns=3, max_tokens=64), tasks, world, policy, seed=seed, temperature=1.0)
    used = [e.trajectories[0] for e in episodes if any(seen.executed for _, seen in e.trajectories[0].calls)]
    if not used:
        raise ValueError(f"no tool was used in {len(tasks)} episodes (seed {seed}); play more tasks")
    signals = pack(used, [Score(0.0)] * len(used), range(len(used)))
    return signals.ids_NT, signals.turn_NT


def learn(masked: bool, *, seed: int, tasks: int, steps: int) -> dict[str, float]:
    """Fine-tune the pocket model on its own calculator episodes, with observation tokens masked or trained on.

    Returns the mean log-probability (nats per token) of observation tokens on held-out episodes ``before`` and
    ``after``, their difference ``rise``, and ``gradient``, the largest derivative of the first loss by the
    log-probability of an observation token.
    """
    import torch

    from ferrule.objectives.reduce import token_mean, totals
    from ferrule.objectives.supervised import nll
    from ferrule.policies.local import load
    from ferrule.policies.pocket import WEIGHTS
    from ferrule.train.optimiser import optimiser_of
    from ferrule.train.settings import Settings
    from ferrule.train.update import Sequences, update
    from ferrule.worlds.arithmetic import Arithmetic

    world, policy = Arithmetic(tools=("calculator",)), load(WEIGHTS)
    ids, turn = _played(policy, world, world.tasks("train", tasks, seed=seed, levels=(3, 4)), seed)
    held_ids, held_turn = _played(policy, world, world.tasks("test", tasks, seed=seed, levels=(3, 4)), seed)
    observed, held = _observed(ids, turn), _observed(held_ids, held_turn)
    trained = turn if masked else np.where(observed >= 0, 0, turn)

    def observation_logp() -> float:
        with torch.no_grad():
            logp = policy.logps(torch.from_numpy(held_ids), torch.from_numpy(held))["logp_NT"]
        return float(logp.sum()) / max(int((held >= 0).sum()), 1)

    rows, target = torch.from_numpy(ids), torch.from_numpy(trained)
    every = torch.from_numpy(np.where(observed >= 0, 0, turn))
    logp_NT = policy.logps(rows, every)["logp_NT"]
    loss = token_mean(nll(logp_NT, target), target, totals(target))
    (slope_NT,) = torch.autograd.grad(loss, logp_NT)
    gradient = float(slope_NT[torch.from_numpy(observed >= 0)].abs().max())

    before = observation_logp()
    optimiser = optimiser_of(policy, Settings(learning_rate=1e-4, seed=seed))
    seqs = Sequences(list(ids), list(trained))
    for step in range(steps):
        update(policy, seqs, nll, token_mean, optimiser, rows=16, seed=seed + step)
    after = observation_logp()
    return {"before": before, "after": after, "rise": after - before, "gradient": gradient}


def measure(scale: str, seeds: Sequence[int]) -> Claim:
    """Run both measurements and judge them; see ``ferrule.papers.verltool.claim``."""
    size = scale_of(SCALES, scale)
    race_size = {"trajectories": size["trajectories"], "mean": size["mean"]}
    races = {
        (name, turns): [race(law, turns, seed=seed, **race_size) for seed in seeds]
        for name, law in SETTINGS.items()
        for turns in TURNS
    }
    masks = _masks(seeds, tasks=size["tasks"], steps=size["steps"])
    conditions = [
        at_least(f"lock-step over asynchronous at 3 turns, {name}", [r["ratio"] for r in races[name, 3]], 1.3)
        for name in SETTINGS
    ]
    same = [min(float(races[key][i]["same"]) for key in races) for i in range(len(seeds))]
    conditions += [
        at_least("share of runs with equal trajectories", same, 1.0),
        at_least("rise of observation log-prob without the mask", [row["rise"] for row in masks["mask off"]], 0.0),
        at_least("minus observation gradient with the mask", [-row["gradient"] for row in masks["mask on"]], 0.0),
    ]
    arms: dict[str, dict[str, list[float]]] = {
        arm: {f"seconds, {_named(*key)}": [row[arm] for row in rows] for key, rows in races.items()}
        for arm in ("lock-step", "asynchronous")
    }
    arms |= over_seeds(masks)
    ratios = {
        _named(*key): {kind: [row[kind] for row in rows] for kind in ("ratio", "bound")} for key, rows in races.items()
    }
    return Claim(
        paper="verltool",
        statement=(
            "Trajectories at their own pace finish earlier than in lock-step and are the same; training on "
            "observation tokens raises their probability, and the mask keeps their gradient at 0."
        ),
        measured=f"{conditions[0].name} (simulated schedule: model and tools only wait)",
        arms=arms,
        effect=conditions[0].effect,
        interval=conditions[0].interval,
        threshold=conditions[0].threshold,
        falsifier="The ratio at 3 turns is under 1.3, or the two schedules leave different trajectories.",
        verdict=conclude(conditions),
        seeds=tuple(seeds),
        size=scale,
        notes=(
            "A simulation of schedules: replies and calls are waits, drawn from the stated laws and run by the real "
            "drivers. It measures the cost of waiting for each other, not a model or a tool.",
            *(describe(condition) for condition in conditions),
            *(_reported(name, row) for name, row in ratios.items()),
        ),
        setup={
            **size,
            "turns": list(TURNS),
            "ratios": ratios,
            "conditions": [condition.as_dict() for condition in conditions],
        },
    )


def _named(setting: str, turns: int) -> str:
    return f"{setting}, {turns} turn{'s' * (turns > 1)}"


def _reported(name: str, row: Mapping[str, Sequence[float]]) -> str:
    """One line: the measured ratio with its interval, and what the drawn times alone would give."""
    low, high = student_interval(row["ratio"])
    mean, bound = float(np.mean(row["ratio"])), float(np.mean(row["bound"]))
    return f"ratio, {name}: {mean:.2f} [{low:.2f}, {high:.2f}], without any overhead {bound:.2f}"


def _masks(seeds: Sequence[int], **size: int) -> dict[str, list[dict[str, float]]]:
    """Train both arms for every seed, on one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            return {
                arm: [learn(masked, seed=seed, **size) for seed in seeds]
                for arm, masked in (("mask on", True), ("mask off", False))
            }
    finally:
        torch.set_num_threads(threads)
