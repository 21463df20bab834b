"""``ferrule train`` on several processes and on Ray workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ferrule.cli import main

SHORT = ["--num-generations", "4", "--max-completion-length", "16", "--eval-tasks", "2", "--json"]
SHORT += ["--gradient-accumulation-steps", "2"]
ROWS = "--per-device-train-batch-size"


@pytest.mark.slow
def test_torchrun_starts_a_sharded_run_that_one_process_goes_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    arguments = ["train", *SHORT, "--save-steps", "1", "--eval-steps", "1"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ferrule"]
    done = subprocess.run(
        [*launch, *arguments, ROWS, "4", "--fsdp", "--max-steps", "1"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["summary"]["steps"] == 1, "one process speaks for all"
    run = tmp_path / "runs/train"
    assert (run / "model/model.safetensors").stat().st_size > 1_000_000
    monkeypatch.chdir(tmp_path)
    alone = [*arguments, ROWS, "8", "--max-steps", "2", "--resume"]
    again = CliRunner().invoke(main, alone, catch_exceptions=False)
    assert json.loads(again.stdout)["summary"]["steps"] == 2
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["phase"] == "train"] == [1, 2]
    assert [row["step"] for row in rows if row["phase"] == "eval"] == [1, 2]


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--ray-workers", "2"], "--ray-workers would do nothing without --ray"),
        (["--fsdp"], "fsdp would do nothing: this run has one process"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(
    flags: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(main, ["train", *SHORT, *flags])
    assert found.exit_code == 2
    assert problem in " ".join(found.output.split())
    assert not (tmp_path / "runs").exists()
