"""``benchmarks/soak.py`` and ``half_open.py``, small: a server whose processes die and whose clients misbehave."""

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


@pytest.mark.slow
def test_clients_that_come_back_half_open_leave_the_server_reachable(tmp_path: Path) -> None:
    path = tmp_path / "half_open.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "half_open.py"), "--json", str(path), "--clients", "300"]
    ran = subprocess.run(
        [*command, "--descriptors", "256", "--seconds", "3"], capture_output=True, text=True, timeout=200
    )
    assert path.exists(), ran.stderr[-3000:]
    figures = json.loads(path.read_text())["figures"]
    for part in ("once", "coming back"):
        assert set(figures[part]["health"]) == {"healthy"}
        assert figures[part]["wrong replies"] == 0
    assert sum(figures["coming back"]["connections opened"].values()) > 300
    assert (figures["log bytes"] < 20_000, figures["server exit code"]) == (True, 0)
