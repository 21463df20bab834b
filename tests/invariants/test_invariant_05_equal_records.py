"""Invariant 5: one agent body leaves equal records under every driver, and for the same seeds."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from tests.toys import WORLDS, Prober, layout, tiny_policy

from ferrule.policies.scripted import Scripted, nonsense
from ferrule.rollout.drive import Limits, adrive, drive
from ferrule.rollout.record import dump

POLICIES = {
    "scripted": lambda: Scripted(lambda ask, sample: f"{ask.seed % 97}", renderer=layout()),
    "nonsense": lambda: nonsense(3),
    "local": tiny_policy,
}


@pytest.mark.parametrize("policy_name", sorted(POLICIES))
@pytest.mark.parametrize("world_name", sorted(WORLDS))
def test_batched_and_asyncio_drivers_leave_equal_records(world_name: str, policy_name: str) -> None:
    world, make = WORLDS[world_name], POLICIES[policy_name]
    tasks = world.tasks("test", 3)
    batched = drive(Prober(), tasks, world, make(), samples=2, seed=5)
    turned = asyncio.run(adrive(Prober(), tasks, world, make(), samples=2, seed=5))
    assert batched == turned


def test_seeds_decide() -> None:
    world = WORLDS["arithmetic"]
    tasks = world.tasks("test", 2)
    first, again, other = (drive(Prober(), tasks, world, tiny_policy(), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_concurrency_changes_nothing() -> None:
    world = WORLDS["apis"]
    tasks = world.tasks("test", 4)
    wide = drive(Prober(), tasks, world, POLICIES["scripted"](), samples=2)
    narrow = drive(Prober(), tasks, world, POLICIES["scripted"](), samples=2, limits=Limits(episodes=2, calls=1))
    assert wide == narrow


PROGRAM = """
import sys
from dataclasses import replace
from accelerate import Accelerator
from ferrule.cli.grpo import grpo
from ferrule.rollout.record import save
from ferrule.train.sample import sample
from tests.toys import WORLDS, Prober, tiny_policy
import torch

torch.set_num_threads(1)
pool = Accelerator(cpu=True) if sys.argv[2] == "pool" else None
world = WORLDS["arithmetic"]
recipe = replace(grpo(num_generations=2), agent=Prober())
batch = sample(recipe, lambda n: world.tasks("train", n), 4, world, tiny_policy(rows=1), seed=3, pool=pool)
if pool is None or pool.is_main_process:
    save(__import__("pathlib").Path(sys.argv[1]), [e for g in batch.groups for e in g.episodes])
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_leave_the_records_of_one(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    root = str(Path(__file__).parents[2])
    env = {"PYTHONPATH": root, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    one = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "one.jsonl"), "alone"]
    two = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0"]
    two += [str(tmp_path / "program.py"), str(tmp_path / "two.jsonl"), "pool"]
    for command in (one, two):
        found = subprocess.run(command, env=env, capture_output=True, text=True, cwd=root, check=False)
        assert found.returncode == 0, found.stderr[-2000:]
    from ferrule.rollout.record import load

    first, second = ([e for e, _ in load(tmp_path / name)] for name in ("one.jsonl", "two.jsonl"))
    assert len(first) == 8
    assert first == second
    assert dump(first[0])
