"""Seconds of ``import ferrule`` beyond the bare interpreter, of ``ferrule --help``, and of ``ferrule run`` to its end.

``run`` is the command as it is; ``run, loaded`` answers the same prompt by a model that transformers loads, as a
program that trains it does. Wall time depends on what else the machine does, so processor time is given as well.
"""

import os
import resource
import subprocess
import sys
import time

from common import arguments, report, spread

PROMPT = "Compute 37 + 85."
LOADED = f"import ferrule as fe; print(fe.run({PROMPT!r}, fe.load('pocket')).trajectories[0].answer)"


def seconds(command: list[str]) -> tuple[float, float]:
    """Run a command and return its wall time and its processor time."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure the commands in turn, so that drift of the machine hits all alike."""
    options = arguments(__doc__ or "", repeats=15)
    commands = {
        "bare": [sys.executable, "-c", "pass"],
        "import": [sys.executable, "-c", "import ferrule"],
        "help": [sys.executable, "-m", "ferrule", "--help"],
        "run": [sys.executable, "-m", "ferrule", "run", PROMPT],
        "run, loaded": [sys.executable, "-c", LOADED],
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(options.repeats + 1):  # the first fills caches
        for name, command in commands.items():
            taken[name].append(seconds(command))
    figures = {}
    for place, kind in enumerate(("wall", "processor")):
        columns = {name: [pair[place] for pair in pairs[1:]] for name, pairs in taken.items()}
        beyond = [a - b for a, b in zip(columns["import"], columns["bare"], strict=True)]
        saved = [a - b for a, b in zip(columns["run, loaded"], columns["run"], strict=True)]
        rows = {**columns, "import beyond bare": beyond, "run, saved": saved}
        figures[kind] = {name: spread(values) for name, values in rows.items()}
    report("startup", figures, options.json)


if __name__ == "__main__":
    main()
