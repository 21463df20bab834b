"""Flags that say where and how a model is computed: what a run says of them, adapters that go on, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ferrule.cli import main

pytestmark = pytest.mark.usefixtures("one_thread", "undrawn")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"{i} + 1 =", "completion": f" {i + 1}"} for i in range(12)]
    Path("talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


_SFT = ("sft", "--dataset", "talks.jsonl", "--eval-rows", "2", "--max-steps", "1")


def test_adapters_are_trained_go_on_and_are_merged(here: Path) -> None:
    """Rank 2 on the queries alone: of the pocket model's parameters 2 x (width + width) in each block train."""
    first = ran(
        *_SFT, "--use-peft", "--lora_r", "2", "--lora_alpha", "8", "--lora-target-modules", "q_proj", "--name", "first",
        "--gradient-checkpointing", "--device", "cpu",
    )  # fmt: skip
    assert first.exit_code == 0, first.output
    settings = json.loads((here / "runs/first/settings.json").read_text())
    assert settings["plan"] in first.stderr
    for part in (
        "; cpu, float32; ",
        "parameters train; packed; activations computed again; memory ",
        "GB expected; ChatML",
    ):
        assert part in settings["plan"]
    assert (settings["lora_alpha"], settings["device"], settings["gradient_checkpointing"]) == ("8.0", "cpu", True)
    kept = json.loads((here / "runs/first/model/adapter_config.json").read_text())
    assert (kept["r"], kept["lora_alpha"], kept["target_modules"]) == (2, 8.0, ["q_proj"])
    assert kept["base_model_name_or_path"] == "pocket"
    second = ran(*_SFT, "--model", "runs/first/model", "--name", "second")
    assert second.exit_code == 0, second.output
    both = [json.loads((here / f"runs/{name}/settings.json").read_text())["policy"] for name in ("first", "second")]
    assert both[0]["trained"] == both[1]["trained"] < both[0]["parameters"] / 100
    refused = ran(*_SFT, "--model", "runs/first/model", "--use-peft", "--lora-r", "4", "--name", "third")
    assert refused.exit_code == 2
    assert "--lora-r would do nothing: runs/first/model has adapters, which go on training" in refused.output
    merged = ran("models", "merge", "runs/second/model", "--output-dir", "merged", "--json")
    assert merged.exit_code == 0, merged.output
    assert {"config.json", "model.safetensors", "ferrule.json"} <= {path.name for path in (here / "merged").iterdir()}
    again = ran("models", "merge", "runs/second/model", "--output-dir", "merged")
    assert "merged holds files; choose another folder" in again.output


def test_weights_in_bf16_learn(here: Path) -> None:
    done = ran(*_SFT, "--dtype", "bfloat16", "--name", "half", "--json")
    assert done.exit_code == 0, done.output
    settings = json.loads((here / "runs/half/settings.json").read_text())
    assert (settings["policy"]["dtype"], settings["policy"]["bf16"]) == ("bfloat16", False)
    assert "; cpu, bfloat16; " in settings["plan"]
    held = json.loads(done.stdout)["evaluations"]
    assert held["after"]["rows"]["loss"] < held["before"]["rows"]["loss"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("eval", "arithmetic", "--device", "gpu"), "unknown device 'gpu'; did you mean 'cpu'"),
        (("run", "x", "--device", "cuda:99"), "device 'cuda:99' is not available; this process has"),
        ((*_SFT, "--device", "tpu"), "unknown device 'tpu'"),
        ((*_SFT, "--dtype", "bfloat"), "unknown dtype 'bfloat'; did you mean 'bfloat16'"),
        (
            (*_SFT, "--lora-alpha", "4", "--lora-dropout", "0.1"),
            "--lora-alpha, --lora-dropout would do nothing without",
        ),
        ((*_SFT, "--use-peft", "--target-modules", "q_prj"), "no linear layer of this model is called 'q_prj'"),
        (("eval", "arithmetic", "--date", "2026-01-31"), "--date would do nothing: the prompts of pocket name no day"),
        (("eval", "arithmetic", "--date", "31.1."), "does not match the format"),
        (("eval", "arithmetic", "--model", "http://127.0.0.1:1/v1", "--device", "cpu"), "device would do nothing"),
        (("models", "merge", "pocket"), "the model has no adapters to merge"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(here: Path, arguments: tuple[str, ...], reason: str) -> None:
    done = ran(*arguments)
    assert done.exit_code == 2
    assert reason in done.output
    assert not (here / "runs").exists()
