"""``benchmarks/storm.py``, small: a run that is killed again and again ends as one that nobody disturbs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_the_same(tmp_path: Path) -> None:
    path = tmp_path / "storm.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "storm.py"), "--json", str(path)]
    ran = subprocess.run([*command, "--variants", "ahead", "--kills", "4"], capture_output=True, text=True, timeout=280)
    assert path.exists(), ran.stdout[-3000:] + ran.stderr[-3000:]
    figures = json.loads(path.read_text())["figures"]["ahead"]
    assert (figures["kills"], figures["steps"]) == (4, 2 * 4 + 4)
    assert (figures["metrics equal"], figures["episodes equal"], figures["weights equal"]) == (True, True, True)
    assert figures["episodes"] == 12 * 8  # steps, each of two tasks with four samples
    assert figures["processes left behind"] == 0
