"""Write the tested set of versions: every dependency of the package, with its own, as installed here.

``python scripts/pin.py`` writes ``requirements/base.txt`` and ``requirements/tested.txt``.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["closure", "main"]

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# {what}: written by `make pins` from an environment whose tests pass. Do not edit.\n"


def closure(name: str, extras: frozenset[str]) -> dict[str, str]:
    """Return name -> version of everything that ``name[extras]`` needs on this machine, itself left out."""
    pins: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(canonicalize_name(name), extras)]
    while waiting:
        current, wanted = waiting.pop()
        if (current, wanted) in seen:
            continue
        seen.add((current, wanted))
        dist = distribution(current)
        # A local version label ("+cpu") names one build of a release; the pin names the release.
        pins[current] = dist.version.split("+")[0]
        for line in dist.requires or ():
            need = Requirement(line)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in {*wanted, ""}):
                waiting.append((canonicalize_name(need.name), frozenset(need.extras)))
    pins.pop(canonicalize_name(name), None)
    return pins


def main() -> None:
    """Write both files."""
    for file, what, extras in (
        ("base.txt", "The base install", frozenset[str]()),
        ("tested.txt", "Everything the tests run with", frozenset({"all"})),
    ):
        pins = closure("ferrule", extras)
        lines = [f"{name}=={version}\n" for name, version in sorted(pins.items())]
        (ROOT / "requirements" / file).write_text(HEADER.format(what=what) + "".join(lines), encoding="utf-8")
        print(f"requirements/{file}: {len(pins)} packages")


if __name__ == "__main__":
    main()
