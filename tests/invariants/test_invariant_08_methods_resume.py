"""Invariant 8 for methods of several parts: whichever part is killed, the run goes on to the same numbers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.invariants.test_invariant_08_killed_runs_resume import Killed, at
from tests.train import methods
from tests.train.methods import STEPS, run

from ferrule.rollout.record import load
from ferrule.train import loop, on_data, step
from ferrule.train.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[2]


def rows(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in found]


def same(one: Path, other: Path, weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert weights.keys() == others.keys()
    for name in weights:
        assert torch.equal(weights[name], others[name]), name
    assert rows(one) == rows(other)
    assert list(load(one / "episodes.jsonl")) == list(load(other / "episodes.jsonl"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """The run that nobody interrupts."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


def test_invariant_08_every_part_does_something(whole: Any) -> None:
    told = [(row["phase"], row["part"]) for row in rows(whole[0])]
    assert told == [
        ("data", 0), *[("train", 0)] * STEPS[0], ("data", 1), *[("train", 1)] * STEPS[1], *[("train", 2)] * STEPS[2],
    ]  # fmt: skip
    assert [row["step"] for row in rows(whole[0]) if row["phase"] == "train"] == list(range(1, sum(STEPS) + 1))
    assert all(row["grad_norm"] > 0 for row in rows(whole[0]) if row["phase"] == "train")


@pytest.mark.timeout(280)
@pytest.mark.parametrize("part", [0, 1, 2])
def test_invariant_08_kill_9_inside_each_part(part: int, whole: Any, tmp_path: Path) -> None:
    """Killed after the third step of a part: past its checkpoint of step 2, before the next."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "tests.train.methods", str(tmp_path)]
    process = subprocess.Popen(command, env={**env, "OMP_NUM_THREADS": "1"}, cwd=ROOT)
    metrics, deadline, lines = tmp_path / "metrics.jsonl", time.monotonic() + 240, sum(STEPS[:part]) + min(part, 1) + 4
    try:
        while not metrics.exists() or metrics.read_text().count("\n") < lines:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / f"checkpoint-{sum(STEPS)}").exists()
    same(whole[0], tmp_path, whole[1], run(tmp_path, resume=True))


DEATHS: dict[str, tuple[Any, str, int, bool]] = {
    "in the first part, right after a step": (step, "learn", 4, True),
    "after the first part, before the pairs are kept": (loop, "keep", 2, False),
    "after the pairs are kept": (loop, "keep", 2, True),
    "before the reference of the second part is kept": (loop, "write_tensors", 1, False),
    "before the second part's first step": (on_data, "pairs", 1, False),
    "in the second part, before its last checkpoint": (Run, "save", 5, False),
    "in the third part, before its first step": (loop, "on_policy", 1, False),
    "in the third part, right after a checkpoint": (Run, "save", 6, True),
}


@pytest.mark.parametrize("death", DEATHS)
def test_invariant_08_wherever_a_method_dies_it_goes_on_to_the_same_numbers(
    death: str, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, count, after = DEATHS[death]
    monkeypatch.setattr(module, name, at(count, getattr(module, name), after))
    with pytest.raises(Killed):
        run(tmp_path)
    monkeypatch.undo()
    torch.manual_seed(99)
    same(whole[0], tmp_path, whole[1], run(tmp_path, resume=True))


def test_invariant_08_what_was_sampled_is_learned_from_again(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs are not sampled a second time: a resumed part reads them from the run folder."""
    monkeypatch.setattr(step, "learn", at(STEPS[0] + 3, step.learn, False))
    with pytest.raises(Killed):
        run(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(methods, "best_and_worst", lambda *args, **more: lambda policy, lap: 1 / 0)
    same(whole[0], tmp_path, whole[1], run(tmp_path, resume=True))


@pytest.mark.parametrize("adapter", [False, True])
def test_invariant_08_rounds_and_adapters_resume(
    adapter: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the second round's second part, whose reference is what the first round left and its first part made."""
    whole = run(tmp_path / "whole", rounds=2, adapter=adapter)
    assert rows(tmp_path / "whole")[-1]["round"] == 1
    monkeypatch.setattr(step, "learn", at(sum(STEPS) + STEPS[0] + 3, step.learn, True))
    with pytest.raises(Killed):
        run(tmp_path / "cut", rounds=2, adapter=adapter)
    monkeypatch.undo()
    again = run(tmp_path / "cut", rounds=2, adapter=adapter, resume=True)
    same(tmp_path / "whole", tmp_path / "cut", whole, again)
