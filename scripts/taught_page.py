"""Write ``docs/taught.md`` from ``docs/records/taught.json``, which ``benchmarks/taught.py`` makes.

``python scripts/taught_page.py`` writes it, ``--check`` only tells whether it is up to date. Without the record there
is no page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ferrule.evaluate.agent_page import agents_page
from ferrule.papers import ways

__all__ = ["main", "page"]

ROOT = Path(__file__).resolve().parent.parent
RECORD, PAGE = Path("docs/records/taught.json"), Path("docs/taught.md")
NOTE = "<!-- Written by scripts/taught_page.py. Do not edit. -->\n\n"


def _shares(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name}: {share:.0%}" for name, share in found.items())


def page(data: Mapping[str, Any]) -> str:
    """Return the page: how worlds and models were chosen, then both comparisons."""
    chosen, rule = data["chosen"], f"between {data['least']:.0%} and {data['most']:.0%}"
    lines = [
        "# Agents that learned without gradients\n\n",
        "Documents of tools by DRAFT and JTPRO, tips by XSkill, insights by AlphaOPT, trials by STE, a graph of tools "
        "by SIT-Graph and a library of calls that worked, each given to the plain loop, beside it and best-of-n. ",
        f"What is played was chosen on seeds {data['development']} by a rule: the plain loop solves {rule} of it.\n\n",
    ]
    if "apis" in chosen:
        shares, level = _shares(chosen["apis"]["success by level"]), chosen["apis"]["level"]
        lines.append(f"- `apis`: success by level {shares}; played at level {level}.\n")
    if "apps" in chosen:
        shares, steps = _shares(chosen["apps"]["success by steps"]), chosen["apps"]["steps"]
        lines.append(
            "- `apps`: the shipped model solves nothing of it. Success by supervised steps on solutions of other tasks "
            f"{shares}; played after {steps}.\n"
        )
    lines.append("\nWhat each way does with the training tasks:\n\n")
    for name, teach in ways().items():
        said = " ".join(str(teach.__doc__).split()).replace("``", "`").replace(" (`Teach`)", "")
        lines.append(f"- `+{name}`: {said}\n")
    lines.append("\nAgain: `python benchmarks/taught.py --folder FOLDER --json docs/records/taught.json`.\n")
    for arena in data["arenas"]:
        told = agents_page(arena).replace("\n## What", "\n### What").partition("\n\n")[2]
        lines.append(f"\n## {', '.join(arena['about']['worlds'])}\n\n{told}")
    return NOTE + "".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page; the exit status is 1 when a check finds that it is not up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the page is not up to date")
    options = parser.parse_args(arguments)
    if not (ROOT / RECORD).is_file():
        return 0
    wanted = page(json.loads((ROOT / RECORD).read_text(encoding="utf-8")))
    path = ROOT / PAGE
    if not options.check:
        path.write_text(wanted, encoding="utf-8")
    elif not path.is_file() or path.read_text(encoding="utf-8") != wanted:
        print(f"{PAGE} is not up to date; run: python scripts/taught_page.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
