"""``benchmarks/mutations.py``, small: outputs that were tampered with raise nowhere, and none takes long."""

import json
import subprocess
import sys
from pathlib import Path

from ferrule.chat.parsing import parse_json

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


def test_what_the_library_that_repairs_json_raises_is_a_broken_call() -> None:
    """A key that opens two blocks of code, one in the other, fails an assertion of the library."""
    broken = parse_json('{"```json\n{"```json\n{"x": 7}')
    assert broken.problem.startswith("broken JSON")
    assert broken.value is None
