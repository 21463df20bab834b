"""Seconds of ``import ferrule`` beyond the bare interpreter, and of ``ferrule --help``."""

import subprocess
import sys
import time

from common import arguments, report, spread


def seconds(command: list[str]) -> float:
    """Run a command and return its wall time."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Measure the three commands in turn, so that drift of the machine hits all alike."""
    options = arguments(__doc__ or "", repeats=15)
    commands = {
        "bare": [sys.executable, "-c", "pass"],
        "import": [sys.executable, "-c", "import ferrule"],
        "help": [sys.executable, "-m", "ferrule", "--help"],
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.repeats + 1):
        for name, command in commands.items():
            found[name].append(seconds(command))
    figures = {name: spread(values[1:]) for name, values in found.items()}
    beyond = [a - b for a, b in zip(found["import"][1:], found["bare"][1:], strict=True)]
    report("startup", {**figures, "import beyond bare": spread(beyond)}, options.json)


if __name__ == "__main__":
    main()
