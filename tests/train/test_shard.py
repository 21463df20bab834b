"""Two processes that hold half of everything equal one process, and go on with each other's checkpoints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toys import tiny_policy
from tests.train import sharded

from ferrule.train.loop import check, train
from ferrule.train.settings import Settings

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> dict[str, Any]:
    """What two processes found that torchrun started; in ``one`` they went on with a checkpoint of one process."""
    folder = tmp_path_factory.mktemp("sharded")
    sharded.trained(folder / "one", steps=2)
    done = subprocess.run(
        [*TORCHRUN, "--standalone", "--nproc-per-node", "2", "-m", "tests.train.sharded", str(folder)],
        cwd=ROOT,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "PYTHONWARNINGS": "error::UserWarning",
        },
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]
    for job in found[0]:
        for name, whole in found[0][job][0].items():
            assert torch.equal(whole, found[1][job][0][name]), "both processes end with the same whole weights"
    return {"folder": folder, **found[0]}


def gap(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize(("job", "groups"), [("updated", 3), ("uneven", 1)])
def test_two_sharded_processes_equal_one(job: str, groups: int, two: dict[str, Any]) -> None:
    weights, metrics = sharded.updated(groups=groups)
    start = sharded.weights(sharded.load(sharded.WEIGHTS))
    assert gap(weights, start) > 1e-3, "the steps moved the weights"
    assert gap(two[job][0], weights) < 1e-5
    for together, alone in zip(two[job][1], metrics, strict=True):
        for name in ("loss", "entropy", "kl", "grad_norm"):
            assert together[name] == pytest.approx(alone[name], rel=1e-3, abs=1e-5), name
        assert alone["grad_norm"] > 0.005, "the gradient was clipped"


def test_a_run_of_two_equals_a_run_of_one(two: dict[str, Any], tmp_path: Path) -> None:
    weights, summary = sharded.trained(tmp_path)
    assert gap(two["trained"][0], weights) < 1e-4
    assert two["trained"][1]["steps"] == summary["steps"] == 3


def test_a_critic_is_sharded_too(two: dict[str, Any], tmp_path: Path) -> None:
    weights, _ = sharded.trained(tmp_path, base=sharded.CRITIC)
    assert float(weights["head.value.weight"].abs().max()) > 1e-4, "the critic learned"
    assert gap(two["critic"][0], weights) < 1e-4


def test_two_go_on_where_one_stopped(two: dict[str, Any], tmp_path: Path) -> None:
    """The checkpoint of step 2 was written by one process and read by two; weights and AdamW's state are whole."""
    weights, _ = sharded.trained(tmp_path)
    assert gap(two["resumed"][0], weights) < 1e-4
    assert two["resumed"][1]["steps"] == 3


def test_one_goes_on_where_two_stopped(two: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(two["folder"] / "two", tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoint-3")
    weights, summary = sharded.trained(tmp_path / "run", resume=True)
    assert gap(weights, two["trained"][0]) < 1e-4
    assert summary["steps"] == 3
    parts = {path.name for path in (two["folder"] / "two/checkpoint-2").glob("*.safetensors")}
    assert len(parts) == 2, "each process wrote its own part"


def test_sharding_one_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fsdp would do nothing: this run has one process"):
        check(sharded.RECIPE, Settings(fsdp=True))
    with pytest.raises(ValueError, match="fsdp would do nothing"):
        train(sharded.RECIPE, sharded.LETTERS, tiny_policy(), Settings(fsdp=True), tmp_path)
