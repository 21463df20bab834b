"""The soak of ``benchmarks/soak.py``, small: every reply belongs to its call while what it rests on is killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_reply_is_shifted_and_no_episode_lost_while_processes_die(tmp_path: Path) -> None:
    path = tmp_path / "soak.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--json", str(path), "--episodes", "48"]
    command += ["--calls", "4", "--concurrency", "12", "--workers", "2", "--kills", "6", "--half-open", "40"]
    ran = subprocess.run([*command, "--slow", "2"], capture_output=True, text=True, timeout=380)
    assert path.exists(), ran.stderr[-3000:]
    figures = json.loads(path.read_text())["figures"]
    assert figures["first wrong"] == []
    assert (figures["wrong replies"], figures["warm-up wrong"], figures["lost episodes"]) == (0, 0, 0)
    assert figures["episodes"] == 48
    assert figures["kills"] == {"worker": 2, "zygote": 2, "helper": 2}
    assert figures["worker restarts"] == 2
    assert figures["branches"] > 0
    assert (figures["orphans left"], figures["server exit code"]) == (0, 0)
    assert figures["descriptors after"] == figures["descriptors before"]
