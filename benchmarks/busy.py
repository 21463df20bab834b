"""Seconds of a training step on a free machine, and beside a program that holds one core.

Every case is a process of its own, as the setting is read when torch is loaded: ``GOMP_SPINCOUNT`` as the package sets
it, and as GNU OpenMP would have it. A case that does not end in ``--limit`` seconds has no figure.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import arguments, report

STEPS = """
import json, sys
import ferrule as fe
recipe = fe.grpo(num_generations=8, max_completion_length=64)
fe.train(recipe, fe.world("apis"), fe.load("pocket"), fe.Settings(max_steps=int(sys.argv[1])), sys.argv[2])
"""
CASES = {"as the package sets it": {}, "as GNU OpenMP does": {"GOMP_SPINCOUNT": "300000"}}


def seconds_a_step(environment: dict[str, str], steps: int, limit: float) -> float | None:
    """Train in a process of its own; returns the seconds of a step, or None where time ran out."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        kept = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_NUM_THREADS")}
        command = [sys.executable, "-c", STEPS, str(steps), str(run)]
        try:
            subprocess.run(command, env={**kept, **environment}, check=True, capture_output=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return None
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return float([row["seconds"] for row in rows if row["phase"] == "train"][-1]) / steps


def main() -> None:
    """Measure all cases."""
    given = arguments(str(__doc__), steps=4, limit=90)
    figures: dict[str, Any] = {}
    for name, environment in CASES.items():
        free = seconds_a_step(environment, given.steps, given.limit)
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
        try:
            figures[name] = {"free": free, "beside": seconds_a_step(environment, given.steps, given.limit)}
        finally:
            busy.kill()
            busy.wait()
    report("busy", {"steps": given.steps, "limit": given.limit, "seconds a step": figures}, given.json)


if __name__ == "__main__":
    main()
