"""``benchmarks/pyopt.py``, small: of programs that were tampered with none that is wrong is kept."""

import json
import subprocess
import sys
from pathlib import Path

from ferrule.worlds.pyopt.rules import broken

ROOT = Path(__file__).parents[2]


def test_no_wrong_program_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "pyopt.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "pyopt.py"), "--json", str(path), "--proposals", "8"]
    ran = subprocess.run([*command, "--seed", "7"], capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    figures = json.loads(path.read_text())["figures"]
    assert (figures["all"]["proposed"], figures["all"]["wrong and accepted"]) == (8, 0)
    assert len(figures) == 9


def test_a_program_cannot_tell_by_a_template_that_it_is_timed():
    original = "def f(n):\n    return sum(range(n))\n"
    peeking = """def f(n):
    box = []
    def peek():
        yield "{0.gi_frame.f_back.f_back.f_code.co_name}".METHOD(BOX)
    box.append(peek())
    return 0 if next(box[0]) == "_seconds" else sum(range(n))
"""
    for method, box in (("format", "box[0]"), ("format_map", "box")):
        program = peeking.replace("METHOD", method).replace("BOX", box)
        assert broken(program, original, "f") == f"line 4 uses the attribute {method!r}, which programs may not use"
