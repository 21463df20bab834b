"""Invariant 8: a run that is killed goes on from its last checkpoint to the same numbers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ferrule.rollout.record import load

PROGRAM = """
import sys
from pathlib import Path
import torch
from ferrule.agents.react import ToolLoop
from ferrule.cli.grpo import grpo
from ferrule.core.recipe import vary
from ferrule.core.records import Score
from ferrule.train.loop import train
from ferrule.train.settings import Settings
from tests.toys import WORLDS, tiny_policy

torch.set_num_threads(1)
recipe = vary(
    grpo(num_generations=4, max_completion_length=8, beta=0.01),
    reward=lambda task, ts: [Score(float(sum(t.turns[0].sampled) % 7)) for t in ts],
)
settings = Settings(max_steps=8, learning_rate=1e-3, per_device_train_batch_size=8, save_steps=2, seed=4)
folder = Path(sys.argv[1])
policy = tiny_policy()
train(recipe, WORLDS["arithmetic"], policy, settings, folder, resume="resume" in sys.argv)
policy.save(folder / "model")
"""


def command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(folder), *more]


def rows(folder: Path) -> list[dict]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in found]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_9_and_resume_equal_the_uninterrupted_run(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(command(whole), env=env, check=True, cwd=root)

    process = subprocess.Popen(command(cut), env=env, cwd=root)
    deadline = time.monotonic() + 600
    metrics = cut / "metrics.jsonl"
    # Past the checkpoint of step 2 and inside a later step, so that work beyond the checkpoint is lost and done again.
    while not metrics.exists() or metrics.read_text().count("\n") < 3:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (cut / "model").exists()
    kept = sorted(p.name for p in cut.glob("checkpoint-*"))
    assert kept
    assert "checkpoint-8" not in kept

    subprocess.run(command(cut, "resume"), env=env, check=True, cwd=root)
    first, second = (load_file(folder / "model" / "model.safetensors") for folder in (whole, cut))
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)
    assert rows(whole) == rows(cut)
    assert [row["step"] for row in rows(cut)] == list(range(1, 9))
    episodes = [[episode for episode, _ in load(folder / "episodes.jsonl")] for folder in (whole, cut)]
    assert episodes[0] == episodes[1]
    assert len(episodes[0]) == 64


def test_resuming_nothing_says_so(tmp_path: Path) -> None:
    from tests.toys import WORLDS, tiny_policy

    from ferrule.cli.grpo import grpo
    from ferrule.train.loop import train
    from ferrule.train.settings import Settings

    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        train(grpo(), WORLDS["arithmetic"], tiny_policy(), Settings(max_steps=1), tmp_path, resume=True)
