"""Write ``docs/arena.md`` and its picture from ``docs/records/arena.json``.

``python scripts/arena_page.py`` writes them, ``--check`` only tells whether the page is up to date. ``--from FILE``
takes another result (of ``ferrule arena``) over first.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from ferrule.evaluate.standings import page

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- Written by scripts/arena_page.py. Do not edit. -->\n\n"
RECORD, PAGE, PICTURE = Path("docs/records/arena.json"), Path("docs/arena.md"), Path("docs/assets/arena.png")


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page; the exit status is 1 when a check finds that it is not up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the page is not up to date")
    parser.add_argument("--from", dest="source", type=Path, default=None, help="take this result over")
    options = parser.parse_args(arguments)
    if options.source is not None:
        shutil.copy(options.source, ROOT / RECORD)
    data = json.loads((ROOT / RECORD).read_text(encoding="utf-8"))
    wanted = NOTE + page(data)
    path = ROOT / PAGE
    stale = not path.is_file() or path.read_text(encoding="utf-8") != wanted
    if options.check:
        if stale:
            print(f"{PAGE} is not up to date; run: python scripts/arena_page.py", file=sys.stderr)
        return int(stale)
    path.write_text(wanted, encoding="utf-8")
    if options.source is not None:
        from ferrule.view.arena import arena_figure

        arena_figure(data, ROOT / PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
