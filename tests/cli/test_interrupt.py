"""Ctrl-C in a real process: the run ends in good order and says how to go on, and going on works."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from ferrule.cli import main

SMALL = [
    "--num-generations",
    "2",
    "--per-device-train-batch-size",
    "4",
    "--gradient-accumulation-steps",
    "2",
    "--max-completion-length",
    "24",
    "--eval-tasks",
    "2",
]


def heard() -> None:
    """Listen to Ctrl-C, as a command in a terminal does: what a shell starts in the background ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


# The demo and the arena play 128 samples a step, and no option changes that; of 16, a step is over in a second.
SMALLER = """
from dataclasses import replace

from ferrule.cli import main
from ferrule.evaluate import arena, demo

play, plan = arena.play_arena, demo.demo


def smaller(*given, **settings):
    made = plan(*given, **settings)
    few = replace(made.settings, per_device_train_batch_size=4)
    return replace(made, settings=few, method=replace(made.method, num_generations=4))


demo.demo = smaller
arena.play_arena = lambda made, *given, **more: play(replace(made, groups=4, num_generations=4), *given, **more)
main()
"""


def start(folder: Path, *arguments: str, program: Sequence[str] = ("-m", "ferrule")) -> subprocess.Popen[str]:
    """Start a command in a session of its own, as a terminal does."""
    return subprocess.Popen(
        [sys.executable, *program, *arguments], cwd=folder, text=True, start_new_session=True, preexec_fn=heard,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def pressed(process: subprocess.Popen[str], sign: Path) -> str:
    """Press Ctrl-C once ``sign`` holds a line, and return what the command said before it ended with 130."""
    deadline = time.monotonic() + 240
    while not (sign.exists() and sign.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no first step"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    said = process.communicate(timeout=240)[1]
    # Where the signal comes amid the exec or eval of a text, Python itself ends by the signal once the command has
    # ended in good order. Shells tell both as 130.
    assert process.returncode in (130, -signal.SIGINT), said
    return said


def to_go_on(said: str) -> list[str]:
    (line,) = [line for line in said.splitlines() if "go on with: ferrule " in line]
    return shlex.split(line.split("go on with: ferrule ")[1])


def steps(folder: Path) -> list[int]:
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row["step"] for row in rows if row["phase"] == "train"]


@pytest.mark.timeout(600)
def test_an_interrupted_training_run_keeps_all_and_goes_on_with_the_printed_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    folder = tmp_path / "runs" / "two words".replace(" ", "-")
    arguments = ["train", "--world", "arithmetic", "--max-steps", "6", *SMALL, "--name", folder.name]
    said = pressed(start(tmp_path, *arguments), folder / "metrics.jsonl")
    taken = steps(folder)
    assert 1 <= len(taken) < 6
    assert "interrupted: the run ends after this step" in said
    assert (folder / f"checkpoint-{len(taken)}" / "state.json").is_file()
    assert json.loads((folder / "summary.json").read_text())["stopped_by"] == "interrupted"
    assert (folder / "model" / "model.safetensors").is_file()
    assert "<svg" in (folder / "report.html").read_text() or len(taken) < 2
    assert set(json.loads((folder / "evaluations.json").read_text())) == {"before"}, "who stops does not wait"

    again = to_go_on(said)
    assert again == [*arguments, "--resume"]
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(main, again, catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    assert steps(folder) == list(range(1, 7))
    assert set(json.loads((folder / "evaluations.json").read_text())) == {"before", "after"}


@pytest.mark.timeout(600)
def test_interrupted_before_the_first_step_it_says_how_to_start_again(tmp_path: Path) -> None:
    arguments = ["train", "--world", "arithmetic", "--max-steps", "9", *SMALL, "--eval-tasks", "4000"]
    said = pressed(start(tmp_path, *arguments), tmp_path / "runs" / "train" / "versions.json")
    assert f"before the first checkpoint; start again with: ferrule {shlex.join(arguments)}\n" in said


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_interrupted_demo_goes_on(tmp_path: Path) -> None:
    arguments = ["demo", "--max-steps", "6", "--eval-tasks", "2"]
    demo = start(tmp_path, *arguments, program=("-c", SMALLER))
    said = pressed(demo, tmp_path / "runs" / "demo" / "metrics.jsonl")
    assert to_go_on(said) == [*arguments, "--resume"]
    assert list((tmp_path / "runs" / "demo").glob("checkpoint-*"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_interrupted_arena_keeps_the_cell_in_work_and_records_none_that_is_half_trained(tmp_path: Path) -> None:
    arguments = ["arena", "--recipes", "grpo", "--world", "arithmetic", "--budget", "9k", "--seeds", "1"]
    arguments += ["--eval-tasks", "2", "--num-generations-eval", "1"]
    cell = tmp_path / "runs" / "arena" / "grpo" / "seed-0"
    said = pressed(start(tmp_path, *arguments, program=("-c", SMALLER)), cell / "metrics.jsonl")
    assert to_go_on(said) == arguments
    assert (cell / f"checkpoint-{len(steps(cell))}").is_dir()
    units = (tmp_path / "runs" / "arena" / "units.jsonl").read_text().splitlines()
    assert [json.loads(line)["recipe"] for line in units] == ["untrained"]
