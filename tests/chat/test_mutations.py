"""``benchmarks/mutations.py``, small: outputs that were tampered with raise nowhere, and none takes long."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_outputs_that_were_tampered_with_raise_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "mutations.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "mutations.py"), "--json", str(path)]
    ran = subprocess.run(
        [*command, "--outputs", "2000", "--episodes", "200", "--seed", "7"], capture_output=True, text=True, timeout=280
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    figures = json.loads(path.read_text())["figures"]
    assert figures["codecs"]["outputs"] == 2000
    assert figures["driver"]["outputs"] >= 200
    assert set(figures["driver"]["finishes"]) <= {"answer", "turns", "length", "stopped"}
