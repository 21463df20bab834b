"""``ferrule sft`` and ``ferrule prefer``: what they learn, how runs go on, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ferrule.cli import main

pytestmark = pytest.mark.usefixtures("one_thread", "undrawn")

_SMALL = ("--per-device-train-batch-size", "4", "--json")
_TOOL = {"type": "function", "function": {"name": "twice", "description": "Double.", "parameters": {
    "type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}}  # fmt: skip


def talk(x: int) -> dict[str, Any]:
    call = {"id": "a", "type": "function", "function": {"name": "twice", "arguments": json.dumps({"x": x})}}
    messages = [
        {"role": "user", "content": f"Double {x}."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": str(2 * x), "tool_call_id": "a"},
        {"role": "assistant", "content": f"{2 * x}!"},
    ]
    return {"messages": messages, "tools": [_TOOL]}


def pair(x: int) -> dict[str, Any]:
    return {"prompt": f"Double {x}.", "chosen": f"{2 * x}!", "rejected": "No."}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, row in (("talks", talk), ("pairs", pair)):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row(x)) + "\n" for x in range(20)))
    return tmp_path


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def result(*arguments: str) -> dict[str, Any]:
    done = ran(*arguments, *_SMALL)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def rows(folder: Path, phase: str = "train") -> list[dict[str, Any]]:
    logged = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row for row in logged if row["phase"] == phase]


def test_sft_learns_what_the_model_writes_and_measures_what_is_held_out(here: Path) -> None:
    told = result("sft", "--dataset", "talks.jsonl", "--max_steps", "6", "--eval-steps", "3", "--learning-rate", "1e-3")
    before, after = (told["evaluations"][phase]["rows"]["loss"] for phase in ("before", "after"))
    assert after < 0.5 * before
    assert [row["loss"] for row in rows(here / "runs" / "sft", "eval")][-1] == pytest.approx(after)
    settings = json.loads((here / "runs" / "sft" / "settings.json").read_text())
    assert settings["rows"] + settings["eval_rows"] == 20
    assert (settings["command"], settings["loss_on"], settings["max_steps"]) == ("ferrule sft", "model", 6)
    page = (here / "runs" / "sft" / "report.html").read_text()
    assert f"rows: loss {before:.4g} before, {after:.4g} after." in page
    all_tokens = result("sft", "--dataset", "talks.jsonl", "--max-steps", "1", "--loss-on", "all", "--name", "all")
    assert "rows" in all_tokens["evaluations"]["after"]
    learned = [rows(here / "runs" / name)[0]["tokens/learned"] for name in ("sft", "all")]
    assert learned[1] > 1.5 * learned[0]


def test_epochs_say_how_many_steps_there_are(here: Path) -> None:
    """All 20 rows train; 1.5 times 20 rows in steps of 4 rows are 7.5 steps."""
    told = result("sft", "--dataset", "talks.jsonl", "--eval-rows", "0", "--num_train_epochs", "1.5")
    assert told["summary"]["steps"] == 8
    assert told["evaluations"] == {}
    assert "not both" in ran("sft", "--dataset", "talks.jsonl", "--num-train-epochs", "1", "--max-steps", "2").output


def test_a_run_goes_on_to_the_same_numbers(here: Path) -> None:
    shared = ("sft", "--dataset", "talks.jsonl", "--eval-rows", "0", "--save-steps", "2", "--use-peft")
    result(*shared, "--max-steps", "4", "--name", "whole")
    result(*shared, "--max-steps", "2", "--name", "half")
    result(*shared, "--max-steps", "4", "--name", "half", "--resume")
    whole, half = ([row["loss"] for row in rows(here / "runs" / name)] for name in ("whole", "half"))
    assert half == pytest.approx(whole, rel=1e-6)
    assert (here / "runs" / "half" / "model" / "adapter_model.safetensors").is_file()
    assert "holds a run" in ran(*shared, "--name", "half").output


@pytest.mark.parametrize("method", ["dpo", "ipo", "kto", "simpo", "orpo", "rpo"])
def test_prefer_raises_what_is_chosen(here: Path, method: str) -> None:
    told = result(
        "prefer", "--dataset", "pairs.jsonl", "--method", method, "--max-steps", "4", "--learning-rate", "1e-5"
    )
    before, after = (told["evaluations"][phase]["rows"] for phase in ("before", "after"))
    assert after["loss"] < before["loss"]
    assert method == "kto" or (after["margin"] > before["margin"] and after["accuracy"] >= before["accuracy"])
    settings = json.loads((here / "runs" / "prefer" / "settings.json").read_text())
    assert (settings["method"], settings["beta"]) == (method, 2.0 if method == "simpo" else 0.1)
    assert settings["rows"] + settings["eval_rows"] == (40 if method == "kto" else 20)  # kto takes pairs apart


def test_long_rows_are_cut_and_empty_ones_left_out(here: Path) -> None:
    """With 8 tokens no row holds a reply; with a longer limit some replies are cut."""
    nothing = ran("sft", "--dataset", "talks.jsonl", "--max-length", "8", "--max-steps", "1")
    assert "leaves anything to learn" in nothing.output
    Path("mixed.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": "b b b b b b"}\n')
    done = ran("sft", "--dataset", "mixed.jsonl", "--eval-rows", "0", "--max-length", "4", "--max-steps", "1")
    assert done.exit_code == 0, done.output
    assert "rows: of 2, 1 are cut to 4 tokens and 0 left out" in done.stderr


@pytest.mark.parametrize(
    ("command", "rows", "said"),
    [
        (
            ["sft"],
            [{"messages": talk(0)["messages"]}, talk(1)],
            "1 of 2 rows call tools and list none, so the model learns calls of tools that its prompt does not name",
        ),
        (
            ["prefer"],
            [{"prompt": talk(0)["messages"][:3], "chosen": talk(0)["messages"][3:], "rejected": talk(1)["messages"][3:]}],
            "1 of 1 rows call tools and list none",
        ),
        (
            ["sft"],
            [{"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a", "weight": i % 2}]}
             for i in range(4)],
            "rows: 2 of 4 left out: no reply in them is to be learned",
        ),
        (
            ["prefer"],
            [{"prompt": f"q{i}", "chosen": "yes", "rejected": "no" if i else "yes"} for i in range(4)],
            "rows: 1 of 4 pairs prefer an answer to itself",
        ),
        (
            ["prefer", "--method", "kto"],
            [{"prompt": f"q{i}", "completion": "yes", "label": True} for i in range(4)],
            "rows: all 4 answers are labelled good",
        ),
    ],
)  # fmt: skip
def test_rows_that_teach_nothing_are_told(here: Path, command: list[str], rows: list[object], said: str) -> None:
    Path("idle.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = ran(*command, "--dataset", "idle.jsonl", "--eval-rows", "0", "--max-steps", "1")
    assert done.exit_code == 0, done.output
    assert said in done.stderr


def test_rows_without_anything_to_learn_are_refused_with_the_reason(here: Path) -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]}
    Path("idle.jsonl").write_text(json.dumps(row))
    told = ran("sft", "--dataset", "idle.jsonl", "--max-steps", "1")
    assert "1 of 1 left out: no reply in them is to be learned (weight 0, or empty)" in told.output
    assert "leaves anything to learn, for the reasons above" in told.output


def test_a_world_is_played_before_and_after(here: Path) -> None:
    told = result("sft", "--dataset", "talks.jsonl", "--max-steps", "1", "--world", "arithmetic", "--eval-tasks", "2")
    assert told["evaluations"]["after"]["arms"]["with tools"]["count"] == 2
    assert "loss" in told["evaluations"]["after"]["rows"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["sft"], "--dataset is missing"),
        (["sft", "--dataset", "pairs.jsonl"], "rows of format 'preference' are read by ferrule prefer"),
        (["prefer", "--dataset", "talks.jsonl"], "rows of format 'messages' are read by ferrule sft"),
        (["prefer", "--dataset", "pairs.jsonl", "--method", "ipo", "--gamma", "1"], "--gamma would do nothing"),
        (["sft", "--dataset", "talks.jsonl", "--eval-tasks", "5"], "--eval-tasks would do nothing without --world"),
        (["sft", "--dataset", "talks.jsonl", "--lora-r", "4"], "--lora-r would do nothing without --use-peft"),
        (["sft", "--dataset", "talks.jsonl", "--num-train-epochs", "0"], "it must be above 0"),
        (["sft", "--dataset", "talks.jsonl", "--messages-field", "talk"], "no column 'talk'"),
        (["sft", "--dataset", "talks.jsonl", "--sample-ahead", "1"], "No such option"),
    ],
)
def test_what_would_do_nothing_is_refused(here: Path, arguments: list[str], reason: str) -> None:
    done = ran(*arguments)
    assert done.exit_code == 2
    assert reason in done.output
    assert not (here / "runs").exists()
