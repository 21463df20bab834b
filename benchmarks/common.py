"""What every benchmark shares: the ``--json`` flag, medians with spread, versions and load."""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def versions() -> dict[str, Any]:
    """Return the machine, and the versions of ours and of every package that the benchmark has loaded."""
    known = importlib.metadata.packages_distributions()
    loaded = sorted({known[name][0] for name in list(sys.modules) if name in known} | {"ferrule"})
    out: dict[str, Any] = {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}
    return {**out, "machine": platform.machine(), **{name: importlib.metadata.version(name) for name in loaded}}


def commit() -> str | None:
    """Return the commit that is checked out, with ``-dirty`` where files differ from it; None outside a checkout."""
    told = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(told, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def arguments(about: str, **numbers: int) -> argparse.Namespace:
    """Parse ``--json FILE`` and one integer flag per keyword."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    return parser.parse_args()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and largest value."""
    return {
        "median": round(statistics.median(values), 5),
        "min": round(min(values), 5),
        "max": round(max(values), 5),
        "count": len(values),
    }


def report(name: str, figures: dict[str, Any], path: Path | None) -> None:
    """Print the figures and write them with versions, commit and load."""
    about = {"versions": versions(), "commit": commit(), "load": round(os.getloadavg()[0], 2)}
    data = {"benchmark": name, "figures": figures, **about}
    text = json.dumps(data, indent=1)
    print(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
