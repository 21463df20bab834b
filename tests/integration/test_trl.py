"""Losses and gradients of the first steps, beside those of TRL's trainers on the same files and weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.peers import ROOT, peer_python

from ferrule.cli import main
from ferrule.policies.named import load

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

_FLAGS = {"max_steps": 3, "per_device_train_batch_size": 6, "learning_rate": 1e-4}
"""Every step holds all rows, so that no order of rows can matter."""
_TOOL = {"type": "function", "function": {"name": "times", "description": "Multiply.", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}}}  # fmt: skip


def talk(i: int) -> list[dict[str, Any]]:
    arguments = json.dumps({"a": i, "b": 7})
    return [
        {"role": "user", "content": f"What is {i} times 7?"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "times", "arguments": arguments}}]},
        {"role": "tool", "content": str(7 * i)},
        {"role": "assistant", "content": f"It is {7 * i}." + " Sure." * i},
    ]


def question(i: int) -> str:
    return f"Question: what comes after {i}?\nAnswer:"


_WRONG = [{"role": "assistant", "content": "I do not know."}]
CASES: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "conversations": ("sft", lambda i: {"messages": talk(i), "tools": [_TOOL]}, ("--loss-on", "all")),
    "replies": ("sft", lambda i: {"prompt": talk(i)[:3], "completion": talk(i)[3:], "tools": [_TOOL]}, ()),
    "completions": ("sft", lambda i: {"prompt": question(i), "completion": f" {i + 1}." + " Yes." * i}, ()),
    "texts": ("sft", lambda i: {"text": f"{question(i)} {i + 1}." + " Yes." * i}, ()),
    "pairs of messages": (
        "dpo",
        lambda i: {"prompt": talk(i)[:3], "chosen": talk(i)[3:], "rejected": _WRONG, "tools": [_TOOL]},
        (),
    ),
    "pairs of texts": (
        "dpo",
        lambda i: {"prompt": question(i), "chosen": f" {i + 1}.", "rejected": " No." * (i + 1)},
        (),
    ),
}


def theirs(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Return what TRL's trainers log; TRL comes from an environment of its own, all else from this one."""
    (packages,) = (peer_python("trl")["trl"].parents[1] / "lib").glob("python*/site-packages")
    cases = {name: (kind, str(folder / f"{name}.jsonl"), _FLAGS) for name, (kind, _, _) in CASES.items()}
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/integration/trl_losses.py"), str(folder / "model"), str(folder / "out"),
         json.dumps(cases)],
        env=os.environ | {"PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("told: "))
    return json.loads(line.removeprefix("told: "))  # type: ignore[no-any-return]


def ours(folder: Path, name: str) -> list[dict[str, float]]:
    kind, _, flags = CASES[name]
    given = [word for flag, value in _FLAGS.items() for word in (f"--{flag}", str(value))]
    command = ["sft"] if kind == "sft" else ["prefer", "--method", "dpo"]
    data = ["--dataset", str(folder / f"{name}.jsonl"), "--eval-rows", "0", "--output-dir", str(folder / name)]
    done = CliRunner().invoke(main, [*command, "--model", str(folder / "model"), *data, *given, *flags])
    assert done.exit_code == 0, done.output
    logged = map(json.loads, (folder / name / "metrics.jsonl").read_text().splitlines())
    return [row for row in logged if row["phase"] == "train"]


def test_losses_and_gradients_of_the_first_steps_agree_with_those_of_trl(tmp_path: Path) -> None:
    load("pocket").save(tmp_path / "model")
    for name, (_, row, _) in CASES.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row(i)) + "\n" for i in range(6)))
    told = theirs(tmp_path)
    for name in CASES:
        steps = ours(tmp_path, name)
        for key, allowed in (("loss", 1e-4), ("grad_norm", 1e-3)):
            expected = [step[key] for step in told[name]]
            assert len(expected) == 3
            assert [step[key] for step in steps] == pytest.approx(expected, abs=allowed), (name, key)
