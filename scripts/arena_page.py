"""Write the pages of the stored arenas, ``docs/arena.md`` and ``docs/arena-profile.md``, and their pictures.

``python scripts/arena_page.py`` writes the pages, ``--check`` only tells whether they are up to date. ``--from FILE``
takes another result (of ``ferrule arena``, with ``--columns`` or without) over first, and draws its picture.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferrule.evaluate.profile_page import PICTURE, profile_page
from ferrule.evaluate.standings import page

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- Written by scripts/arena_page.py. Do not edit. -->\n\n"


@dataclass(frozen=True)
class Stored:
    """Where an arena is stored and shown, and what writes its page."""

    record: Path
    page: Path
    picture: Path
    text: Callable[[Mapping[str, Any]], str]


PLAIN = Stored(Path("docs/records/arena.json"), Path("docs/arena.md"), Path("docs/assets/arena.png"), page)
PROFILE = Stored(
    Path("docs/records/arena-profile/arena.json"), Path("docs/arena-profile.md"), Path("docs") / PICTURE, profile_page
)


def _draw(stored: Stored, data: Mapping[str, Any]) -> None:
    from ferrule.view.arena import arena_figure
    from ferrule.view.profile import profile_figure

    (profile_figure if stored is PROFILE else arena_figure)(data, ROOT / stored.picture)


def main(arguments: list[str] | None = None) -> int:
    """Write or check the pages; the exit status is 1 when a check finds one that is not up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a page is not up to date")
    parser.add_argument("--from", dest="source", type=Path, default=None, help="take this result over")
    options = parser.parse_args(arguments)
    if options.source is not None:
        data = json.loads(options.source.read_text(encoding="utf-8"))
        taken = PROFILE if "columns" in data["about"] else PLAIN
        (ROOT / taken.record).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(options.source, ROOT / taken.record)
        _draw(taken, data)
    outdated = 0
    for stored in (PLAIN, PROFILE):
        if not (ROOT / stored.record).is_file():  # no profile was stored yet
            continue
        wanted = NOTE + stored.text(json.loads((ROOT / stored.record).read_text(encoding="utf-8")))
        path = ROOT / stored.page
        if not options.check:
            path.write_text(wanted, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != wanted:
            print(f"{stored.page} is not up to date; run: python scripts/arena_page.py", file=sys.stderr)
            outdated = 1
    return outdated


if __name__ == "__main__":
    sys.exit(main())
