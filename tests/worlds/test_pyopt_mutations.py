"""``benchmarks/pyopt.py``, small: of programs that were tampered with none that is wrong is kept."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_wrong_program_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "pyopt.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "pyopt.py"), "--json", str(path), "--proposals", "8"]
    ran = subprocess.run([*command, "--seed", "7"], capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    figures = json.loads(path.read_text())["figures"]
    assert (figures["all"]["proposed"], figures["all"]["wrong and accepted"]) == (8, 0)
    assert len(figures) == 9
