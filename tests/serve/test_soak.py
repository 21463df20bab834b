"""The soak of ``benchmarks/soak.py``, small: every reply belongs to its call while workers are killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_no_reply_is_shifted_and_no_episode_lost_while_workers_die(tmp_path: Path) -> None:
    path = tmp_path / "soak.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--json", str(path), "--episodes", "96"]
    command += ["--calls", "4", "--concurrency", "24", "--workers", "2", "--kills", "3", "--minutes", "4"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert path.exists(), ran.stderr[-3000:]
    figures = json.loads(path.read_text())["figures"]
    assert figures["first wrong"] == []
    assert (figures["wrong replies"], figures["warm-up wrong"], figures["lost episodes"]) == (0, 0, 0)
    assert figures["calls"] == 96 * 4
    assert (figures["kills"], figures["restarts"]) == (3, 3)
    assert (figures["orphans left"], figures["server exit code"]) == (0, 0)
