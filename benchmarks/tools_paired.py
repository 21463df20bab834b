"""Python tool calls of two checkouts, paired: calls and episodes a second, and milliseconds of a branch.

`python benchmarks/tools_paired.py --before OTHER/CHECKOUT` runs both in turn, in a process of its own each time, and
gives the ratio of this checkout to the other pair by pair: above 1 is faster for what is counted a second, slower for
milliseconds. Quote it from a quiet machine only; the load before each pair is kept.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from common import report, spread

from tools import LEVELS, Local, branching, calls, whole_episodes


def measured(seconds: float, forks: int) -> dict[str, float]:
    """Measure the isolated interpreter of the sources in use, after a warm-up."""
    for level in (1, 8):
        calls(Local, level, 0.2)
        whole_episodes(Local, level, 0.2)
    figures = {}
    for level in LEVELS:
        figures[f"calls a second, {level} at once"] = calls(Local, level, seconds)["per second"]
        figures[f"episodes a second, {level} at once"] = whole_episodes(Local, level, seconds)["per second"]
    for what, values in branching(forks).items():
        figures[f"branch, {what}"] = statistics.median(values)
    return figures


def from_checkout(folder: Path, seconds: float, forks: int) -> dict[str, float]:
    """Measure in a process that imports the package from ``folder``."""
    command = [sys.executable, __file__, "--one", "--seconds", str(seconds), "--forks", str(forks)]
    environment = {**os.environ, "PYTHONPATH": str(folder.resolve() / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Measure both checkouts ``--pairs`` times, the first of a pair in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="a checkout of the other commit")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.2, help="of one measurement")
    parser.add_argument("--forks", type=int, default=20)
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.seconds, options.forks)))
        return
    if options.before is None:
        parser.error("--before names the checkout to compare with")
    here = Path(__file__).resolve().parent.parent
    ratios: dict[str, list[float]] = {}
    figures: dict[str, dict[str, list[float]]] = {"before": {}, "now": {}}
    loads = []
    for pair in range(options.pairs):
        loads.append(round(os.getloadavg()[0], 2))
        turns = [("before", options.before), ("now", here)]
        both = {
            name: from_checkout(folder, options.seconds, options.forks)
            for name, folder in (turns if pair % 2 == 0 else turns[::-1])
        }
        for what, value in both["now"].items():
            ratios.setdefault(what, []).append(value / both["before"][what])
            for name in figures:
                figures[name].setdefault(what, []).append(both[name][what])
    medians = {name: {what: spread(values) for what, values in rows.items()} for name, rows in figures.items()}
    commit = subprocess.run(
        ["git", "-C", str(options.before), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    ratio = {what: spread(values) for what, values in ratios.items()}
    report("tools, paired", {"ratio": ratio, **medians, "commit before": commit, "loads": loads}, options.json)


if __name__ == "__main__":
    main()
