"""``benchmarks/gpu.py`` on a processor: every part that needs no GPU runs, with the pocket model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("gpu") / "gpu.json"
    script = [
        sys.executable,
        str(ROOT / "benchmarks" / "gpu.py"),
        "--json",
        str(path),
        "--device",
        "cpu",
        "--minutes",
        "60",
    ]
    done = subprocess.run(script, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(path.read_text())["figures"])


def test_every_part_runs_on_a_processor(figures: dict[str, Any]) -> None:
    """A part that raises says ``failed`` in the file and lets the others run."""
    parts = {name: part for name, part in figures.items() if isinstance(part, dict) and "seconds" in part}
    assert {name.partition(" ")[0] for name in parts} == {"generate", "sft", "grpo", "lora"}
    assert len(parts) == 9
    assert {name: part["failed"] for name, part in parts.items() if "failed" in part} == {}


def test_what_the_parts_measure_holds(figures: dict[str, Any]) -> None:
    """Log-probs are those of a plain forward pass, losses fall, and adapters go on where they were and are merged."""
    assert figures["generate float32"]["logp_gap_max"] < 1e-3
    for name in ("sft float32", "sft bfloat16", "sft checkpointing"):
        losses = figures[name]["losses"]
        assert losses[-1] < losses[0], name
    assert figures["sft checkpointing"]["losses"] == pytest.approx(figures["sft bfloat16"]["losses"], rel=2e-2)
    lora = figures["lora on bfloat16"]
    assert lora["merged"]
    assert lora["went_on"][0] < lora["losses"][0]
