"""Going on from the middle of a recorded reply: the same checks under every driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule.agents.react import ToolLoop
from ferrule.agents.resume import Resume, prefix_of, resumed
from ferrule.policies.local import Local, load
from ferrule.policies.models import folder_of
from ferrule.rollout.drive import adrive, drive
from ferrule.worlds.arithmetic import Arithmetic

Driver = Callable[..., Any]
DRIVERS: dict[str, Driver] = {"batched": drive, "asyncio": lambda *args, **more: asyncio.run(adrive(*args, **more))}


def pocket_episodes(count: int = 2) -> tuple[Any, Any, list[Any]]:
    """World, the pocket model, and greedy episodes of it that call a tool and then answer."""
    world, policy = Arithmetic(tools=("python",)), load(folder_of("pocket"))
    tasks = world.tasks("test", 12, levels=(2, 5))
    episodes = drive(ToolLoop(turns=4, max_tokens=64), tasks, world, policy, temperature=0.0)
    found = [e for e in episodes if len(e.trajectories[0].turns) >= 2][:count]
    assert len(found) == count
    return world, policy, found


def goes_on_from_any_token(recorded: tuple[Any, Any, list[Any]], driver: Driver) -> None:
    """Greedily the rest is the rest of the original, call, observation and answer included, with the log-probs it had."""
    world, policy, episodes = recorded
    for episode in episodes:
        whole = episode.trajectories[0]
        places = [
            (k, cut)
            for k, turn in enumerate(whole.turns)
            for cut in (0, 1, len(turn.sampled) // 2, len(turn.sampled) - 1, len(turn.sampled))
        ]
        tasks = [
            resumed(episode.task, prefix_of(whole, k, cut=cut), label=f"{k}/{cut}", world_seed=episode.seed)
            for k, cut in places
        ]
        agent = Resume(rounds=4, max_tokens=64)
        for (k, cut), again in zip(places, driver(agent, tasks, world, policy, temperature=0.0), strict=True):
            assert not again.problem
            (path,) = again.trajectories
            first, original = path.turns[0], whole.turns[k]
            assert first.given[-cut:] == original.sampled[:cut] or not cut
            assert first.sampled == original.sampled[cut:]
            assert first.logps == pytest.approx(original.logps[cut:], abs=1e-4)
            assert first.reply == original.reply
            assert [t.sampled for t in path.turns[1:]] == [t.sampled for t in whole.turns[k + 1 :]]
            assert (path.answer, path.final) == (whole.answer, whole.final)


def real_model_goes_on(policy: Local, driver: Driver) -> None:
    """The ids up to the cut are those that were sampled, with their log-probs, and so is the rest."""
    world = Arithmetic(tools=("python",))
    task = world.tasks("test", 1, levels=(2,))[0]
    (episode,) = drive(ToolLoop(turns=1, max_tokens=24), [task], world, policy, temperature=0.0)
    whole = episode.trajectories[0]
    (turn,) = whole.turns
    tasks = [resumed(task, prefix_of(whole, 0, cut=cut), label=f"{cut}") for cut in (1, 11)]
    agent = Resume(max_tokens=24)
    for cut, again in zip((1, 11), driver(agent, tasks, world, policy, temperature=0.0), strict=True):
        assert not again.problem
        first = again.trajectories[0].turns[0]
        assert first.given == (*turn.given, *turn.sampled[:cut])
        assert first.sampled[: 24 - cut] == turn.sampled[cut:]
        ids_NT = np.array([[*first.given, *first.sampled]])
        turn_NT = np.where(np.arange(ids_NT.shape[1]) < len(turn.given), -1, 0)[None]
        scores = policy.scores(ids_NT, turn_NT)[0, len(turn.given) :]
        assert scores[: len(turn.sampled)].tolist() == pytest.approx(turn.logps, abs=1e-3)
