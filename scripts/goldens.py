"""Store the numbers of every arm of every study at the size ``tiny`` below ``claims/goldens/``.

``python scripts/goldens.py [SLUG ...]`` writes them, after a change that is meant to change numbers.
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
    for slug in names or studies():
        try:
            found = study(slug)
        except KeyError as error:
            sys.exit(str(error.args[0]))
        print(golden.write(FOLDER, found))


if __name__ == "__main__":
    main(sys.argv[1:])
