"""Two checkouts of the project measured in turn: ratios pair by pair, with the load before each pair."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import report, spread


def from_checkout(script: str, folder: Path, more: Sequence[str]) -> dict[str, Any]:
    """Run a benchmark's ``--one`` in a process that imports the package from ``folder``; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(folder.resolve() / "src")}
    done = subprocess.run(
        [sys.executable, script, "--one", *more], env=environment, capture_output=True, text=True, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def paired(name: str, script: str, before: Path, pairs: int, more: Sequence[str], path: Path | None) -> None:
    """Measure this checkout and the one ``before`` so many times, the first of a pair in turn, and report.

    Numbers are compared, now to before; of texts it is told whether they were equal every time.
    """
    here = Path(script).resolve().parent.parent
    ratios: dict[str, list[float]] = {}
    equal: dict[str, bool] = {}
    figures: dict[str, dict[str, list[float]]] = {"before": {}, "now": {}}
    loads = []
    for pair in range(pairs):
        loads.append(round(os.getloadavg()[0], 2))
        turns = [("before", before), ("now", here)]
        both = {
            label: from_checkout(script, folder, more) for label, folder in (turns if pair % 2 == 0 else turns[::-1])
        }
        for what, value in both["now"].items():
            if isinstance(value, str):
                equal[what] = equal.get(what, True) and value == both["before"][what]
                continue
            ratios.setdefault(what, []).append(value / both["before"][what])
            for label in figures:
                figures[label].setdefault(what, []).append(both[label][what])
    medians = {label: {what: spread(values) for what, values in rows.items()} for label, rows in figures.items()}
    commit = subprocess.run(
        ["git", "-C", str(before), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    ratio = {what: spread(values) for what, values in ratios.items()}
    same = {"equal": equal} if equal else {}
    report(name, {"ratio": ratio, **same, **medians, "commit before": commit, "loads": loads}, path)
