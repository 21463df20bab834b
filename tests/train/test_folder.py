"""The folder that a run leaves: the same from Python and from the command line, and nobody else's files are touched."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import ferrule as fe
from ferrule.agents.react import ToolLoop
from ferrule.cli import main
from ferrule.objectives.surrogate import surrogate
from ferrule.train.folder import described
from ferrule.train.grpo import grpo
from ferrule.train.settings import Settings

from .pieces import LETTERS, recipe

DEFAULTS = {"reciprocal": False, "dual": None, "ratio": "token"}
"""Parameters of the surrogate that these tests leave alone."""
SETTINGS = Settings(max_steps=1, per_device_train_batch_size=4, gradient_accumulation_steps=1, seed=3)


def files(folder: Path) -> set[str]:
    """Names of all files of a run; what TensorBoard calls its file, and which curves there are, does not matter."""
    listed = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path.parts[0] if path.parts[0] in ("tensorboard", "figures") else str(path) for path in listed}


def test_python_and_the_command_leave_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    shape = ["--num-generations", "4", "--per-device-train-batch-size", "4", "--max-completion-length", "24"]
    command = ["train", "--world", "apis", "--max-steps", "1", "--eval-tasks", "0"]
    shape += ["--gradient-accumulation-steps", "1", "--format-weight", "0"]
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [*command, *shape, "--seed", "3"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    ours, theirs = tmp_path / "ours", tmp_path / "runs" / "train"
    method = grpo(num_generations=4, max_completion_length=24)
    fe.train(method, fe.world("apis"), fe.load("pocket"), SETTINGS, ours)
    expected = {"settings.json", "recipe.json", "versions.json", "summary.json", "report.html", "metrics.jsonl"}
    expected |= {"episodes.jsonl", "model/model.safetensors", "checkpoint-1/state.json", "tensorboard"}
    assert expected <= files(ours)
    assert files(ours) == files(theirs)
    assert (ours / "recipe.json").read_text() == (theirs / "recipe.json").read_text()
    both = [json.loads((folder / "settings.json").read_text()) for folder in (ours, theirs)]
    assert both[0].items() <= both[1].items(), "the command adds what it was asked for, and changes nothing"


def test_a_folder_that_holds_a_run_is_refused_and_overwriting_leaves_other_files(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    fe.train(recipe(), LETTERS, tiny, SETTINGS, tmp_path)
    with pytest.raises(FileExistsError, match=r"holds a run: go on with it \(--resume, in Python resume=True\)"):
        fe.train(recipe(), LETTERS, tiny, SETTINGS, tmp_path)
    (tmp_path / "evaluations.json").write_text("{}")
    fe.train(recipe(), LETTERS, tiny, SETTINGS, tmp_path, overwrite=True)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    assert not (tmp_path / "evaluations.json").exists(), "it told of the run before"
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_a_caller_says_about_a_run_stands_in_its_settings(tiny: Any, tmp_path: Path) -> None:
    fe.train(recipe(), LETTERS, tiny, SETTINGS, tmp_path, about={"model": "tiny"})
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert (settings["model"], settings["seed"], settings["save_steps"]) == ("tiny", 3, 20)


def test_what_a_piece_was_made_with_is_described_and_ends() -> None:
    reward = described(grpo(format_weight=0.2))["reward"]
    assert reward["members"]["outcome"] == ["ferrule.rewards.outcome:outcome", 1.0]
    form, weight = reward["members"]["format"]
    assert (form["need_answer"], weight) == (True, 0.2)

    def again(count: int) -> int:
        return again(count - 1) if count else 0

    assert described(again)["again"] == "this function again"


def test_the_policy_is_recorded_as_it_runs(tiny: Any, tmp_path: Path) -> None:
    fe.train(recipe(), LETTERS, tiny, SETTINGS, tmp_path)
    policy = json.loads((tmp_path / "settings.json").read_text())["policy"]
    size = sum(weight.numel() for weight in tiny.model.parameters())
    assert (policy["kind"], policy["parameters"], policy["trained"]) == ("Local", size, size)
    assert (policy["dtype"], policy["device"]) == ("float32", "cpu")
    assert policy["codec"]["kind"].endswith(type(tiny.renderer.codec).__name__)


def test_a_method_is_described_by_its_pieces() -> None:
    data = json.loads(json.dumps(described(grpo(epsilon=0.1, epsilon_high=0.3))))
    assert data["kind"] == "ferrule.core.recipe:Recipe"
    path = "ferrule.objectives.surrogate:surrogate"
    assert data["objective"] == {"function": path, "lo": 0.1, "hi": 0.3, **DEFAULTS}
    assert data["agent"]["kind"] == f"{ToolLoop.__module__}:ToolLoop"
    assert (data["num_generations"], data["keep"]) == (8, None)
    assert described([0] * 21) == "21 values", "data of a stage is not repeated here"
    assert described([partial(surrogate, 1), {"a": object()}]) == [
        {"function": path, "lo": 0.2, "hi": 0.2, **DEFAULTS, "0": 1},
        {"a": "a object"},
    ]
