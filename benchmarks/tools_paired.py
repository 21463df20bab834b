"""Python tool calls of two checkouts, paired: calls and episodes a second, and milliseconds of a branch.

`python benchmarks/tools_paired.py --before OTHER/CHECKOUT` runs both in turn, in a process of its own each time, and
gives the ratio of this checkout to the other pair by pair: above 1 is faster for what is counted a second, slower for
milliseconds. Quote it from a quiet machine only; the load before each pair is kept.
"""

import argparse
import json
import statistics
from pathlib import Path

from paired import paired

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
    more = ["--seconds", str(options.seconds), "--forks", str(options.forks)]
    paired("tools, paired", __file__, options.before, options.pairs, more, options.json)


if __name__ == "__main__":
    main()
