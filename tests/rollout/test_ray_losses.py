"""Ray workers that are lost while they play: nothing is missing afterwards and nothing is there twice."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.rollout.ray_kit import SMALL, Calling, Desk, tool, two_nodes, word
from tests.toys import layout

from ferrule.policies.scripted import Scripted
from ferrule.rollout.cluster import RayWorkers
from ferrule.rollout.drive import Limits, adrive, drive
from ferrule.rollout.record import Episode

pytestmark = pytest.mark.slow


def wait_until(done: Callable[[], bool]) -> None:
    """Wait for something that another process does, a minute at most."""
    until = time.monotonic() + 60
    while not done() and time.monotonic() < until:
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as cluster:
        yield cluster


def test_a_node_killed_in_the_middle_loses_no_episode(cluster: Any, tmp_path: Path) -> None:
    """When 3 of 12 episodes have ended, a node is killed while its worker is inside a call."""
    kept, held, gone = (tmp_path / name for name in ("calls", "held", "gone"))
    (node,) = cluster.worker_nodes
    raylet = node.all_processes["raylet"][0].process.pid

    def where() -> str:
        with kept.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if held.exists() and os.getppid() == raylet:  # this call is on its way until the node is gone
            with held.open("a") as file:
                file.write(f"{os.getpid()}\n")
            wait_until(gone.exists)
        elif (tmp_path / "two").exists():
            wait_until(lambda: len(set(kept.read_text().splitlines())) > 1)
        return "seen"

    world, policy = Desk((tool("where", where),)), Scripted(word, renderer=layout())
    tasks = world.tasks("train", 6)
    more: dict[str, Any] = {"num_generations": 2, "seed": 5, "limits": Limits(episodes=6, calls=6)}
    here = asyncio.run(adrive(Calling("where"), tasks, world, policy, **more))
    kept.unlink()
    (tmp_path / "two").touch()
    taken: list[int] = []

    def kill() -> None:
        wait_until(lambda: bool(held.read_text()))
        cluster.remove_node(node, allow_graceful=False)
        pid = held.read_text().split()[0]
        wait_until(lambda: not Path(f"/proc/{pid}").exists())  # a worker outlives its node a little
        gone.touch()

    killer = threading.Thread(target=kill)

    def take(place: int, episode: Episode) -> None:
        taken.append(place)
        if len(taken) == 3:
            held.touch()
            killer.start()

    with RayWorkers(count=2, patience=240) as workers:
        there = workers.drive(Calling("where"), tasks, world, policy, take=take, **more)
        killer.join()
        assert there == here
        assert sorted(taken) == list(range(12))
        assert workers.lost == 1
        calls = (tmp_path / "calls").read_text().splitlines()
        assert len(set(calls)) == 2, "both workers took part"
        assert len(calls) > 24, "the calls of lost episodes were made again"
        (tmp_path / "two").unlink()
        assert workers.drive(Calling("where"), tasks, world, policy, **more) == here, "the rest goes on"
    cluster.add_node(**SMALL)


def test_an_episode_that_ends_every_worker_ends_as_data(cluster: Any) -> None:
    """The third task kills its own process; the other episodes are those of a run without it."""
    fatal = tool("fatal", lambda: os.kill(os.getpid(), signal.SIGKILL))
    world, policy = Desk((fatal, tool("good", lambda: "fine"))), Scripted(word, renderer=layout())
    tasks = world.tasks("train", 4)
    with RayWorkers(count=1, patience=240) as workers:
        agent = Calling("good", other=(tasks[2].id, "fatal"))
        found = workers.drive(agent, tasks, world, policy, seed=1)
        assert workers.lost == 3
    assert [bool(episode.problem) for episode in found] == [False, False, True, False]
    assert "lost 3 times" in found[2].problem
    assert (found[2].trajectories[0].finish, found[2].trajectories[0].turns) == ("error", ())
    alone = drive(Calling("good"), tasks, world, policy, seed=1)
    assert [found[i] for i in (0, 1, 3)] == [alone[i] for i in (0, 1, 3)]
    assert found[2].seed == alone[2].seed
