"""Store the numbers of every arm of every study at the size ``tiny`` below ``claims/goldens/``.

``python scripts/goldens.py [SLUG ...]`` writes them, after a change that is meant to change numbers. With ``--add`` it
keeps them, and stores beside them what arms compute on this kind of processor where that differs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ferrule.papers import studies, study
from ferrule.studies import golden

__all__ = ["main"]

FOLDER = Path(__file__).resolve().parent.parent / "claims" / "goldens"


def main(names: list[str]) -> None:
    """Measure and write."""
    adds, names = "--add" in names, [name for name in names if name != "--add"]
    for slug in names or studies():
        try:
            found = study(slug)
        except KeyError as error:
            sys.exit(str(error.args[0]))
        print(slug, golden.add(FOLDER, found)) if adds else print(golden.write(FOLDER, found))


if __name__ == "__main__":
    main(sys.argv[1:])
