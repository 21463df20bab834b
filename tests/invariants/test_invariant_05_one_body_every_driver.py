"""Invariant 5: one agent body leaves identical records under every driver, and for the same seeds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.branching import Fanout
from tests.invariants import jobs
from tests.toys import WORLDS, Prober, layout, tiny_policy

from ferrule.agents.react import ToolLoop
from ferrule.agents.tree import TreeLoop
from ferrule.chat.codec import codec_names
from ferrule.policies.scripted import nonsense
from ferrule.rollout.drive import Limits, adrive, drive
from ferrule.rollout.record import Episode, parse

pytestmark = pytest.mark.usefixtures("one_thread")

AGENTS = {
    "tool loop": ToolLoop(turns=4, max_tokens=20),
    "prober": Prober(),
    "two samples": Prober(n=2),
    "tree": TreeLoop(samples=3, branch=2, depth=3, max_tokens=8),
    "side by side": Fanout(),
}
POLICIES: dict[str, Callable[[str], Any]] = {
    "scripted": lambda codec: nonsense(1, renderer=layout(codec)),
    "local": lambda codec: tiny_policy(codec_name=codec),
}


def played(
    world: str, policy: Any, agent: Any, *, asynchronous: bool, seed: int = 3, limit: int = 256
) -> list[Episode]:
    tasks = WORLDS[world].tasks("train", 2)
    more: dict[str, Any] = {"num_generations": 2, "seed": seed, "temperature": 1.0, "limits": Limits(episodes=limit)}
    if asynchronous:
        return asyncio.run(adrive(agent, tasks, WORLDS[world], policy, **more))
    return drive(agent, tasks, WORLDS[world], policy, **more)


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("world", WORLDS)
def test_invariant_05_batched_and_asyncio_drivers_leave_equal_records(world: str, policy: str, agent: str) -> None:
    batched = played(world, POLICIES[policy](""), AGENTS[agent], asynchronous=False)
    assert batched == played(world, POLICIES[policy](""), AGENTS[agent], asynchronous=True)
    assert all(episode.trajectories[0].turns for episode in batched)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("codec", codec_names())
def test_invariant_05_holds_for_every_codec(codec: str, policy: str) -> None:
    runs = [
        played("apis", POLICIES[policy](codec), AGENTS["tool loop"], asynchronous=asynchronous, limit=limit)
        for asynchronous, limit in ((False, 256), (True, 256), (True, 3))
    ]
    assert runs[0] == runs[1]
    assert [ids_of(episode) for episode in runs[0]] == [ids_of(episode) for episode in runs[2]]


def ids_of(episode: Episode) -> list[Any]:
    return [[(t.given, t.sampled, t.reply, t.observations) for t in path.turns] for path in episode.trajectories]


@pytest.mark.parametrize("policy", POLICIES)
def test_invariant_05_the_seed_decides(policy: str) -> None:
    def run(seed: int, asynchronous: bool = False) -> list[list[Any]]:
        found = played("facts", POLICIES[policy](""), AGENTS["prober"], asynchronous=asynchronous, seed=seed)
        return [ids_of(episode) for episode in found]

    assert run(3) == run(3)
    assert run(3) != run(4)
    assert run(4) == run(4, asynchronous=True)


@pytest.mark.parametrize("policy", POLICIES)
def test_invariant_05_two_processes_leave_the_records_of_one(policy: str, two_processes: Path) -> None:
    """Both processes see all groups, in the order of the tasks; log-probs agree up to rounding (smaller batches)."""
    alone = [parse(line)[0] for line in jobs.lines(jobs.sampled(jobs.policies()[policy]))]
    found = [torch.load(two_processes / f"rank{rank}.pt", weights_only=False) for rank in range(2)]
    assert found[0][f"sampled {policy}"] == found[1][f"sampled {policy}"]
    together = [parse(line)[0] for line in found[0][f"sampled {policy}"]]
    assert len(together) == 20
    assert [(e.task.id, e.sample, e.seed) for e in together] == [(e.task.id, e.sample, e.seed) for e in alone]
    assert [without_logps(e) for e in together] == [without_logps(e) for e in alone]
    for one, other in zip(together, alone, strict=True):
        for turn, same in zip(one.trajectories[0].turns, other.trajectories[0].turns, strict=True):
            assert turn.logps == pytest.approx(same.logps, abs=1e-4)


def without_logps(episode: Episode) -> Any:
    data = json.loads(jobs.dump(jobs.timeless(episode)))
    for turn in data["turns"]:
        turn["logps"] = None
    return data
