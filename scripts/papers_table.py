"""Write ``docs/papers.md`` and one page per measured claim from the paper modules and their stored results.

``python scripts/papers_table.py`` writes them, ``--check`` only tells whether they are up to date.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ferrule.papers import discover, measure, studies, study
from ferrule.studies.measure import stale
from ferrule.studies.paper import GRADES, Paper
from ferrule.studies.stored import stored
from ferrule.studies.telling import cell, numeral, sentence

__all__ = ["main", "pages"]

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- Written by scripts/papers_table.py. Do not edit. -->\n\n"
INTRO = """\
# Papers

Each row is one module of `ferrule.papers`. Its claim is a real experiment, and the result follows from the data alone:
*held* when the 95% interval of the effect lies on the paper's side of the threshold, *not held* when it lies on the
other side, *undecided* otherwise. "Not held" says that the effect was not seen at this small scale; it does not say
that the paper is wrong.

The grade says how strong the evidence is: A, a language model on held-out tasks of a world; B, learning on a stand-in
for a model or a world; C, an illustration of the formula. A claim is *stale* when its study has changed since it was
measured: what one of its arms computes, the conditions that decide, or the seeds. [Evidence](evidence.md) tells what
each claim took and what the papers report.

Measure a claim with `ferrule papers claim SLUG`, read about a paper with `ferrule papers show SLUG`.

| no. | paper | date | pieces | claim | grade | effect [95% interval] |
| --- | --- | --- | --- | --- | --- | --- |
"""


def _spread(values: Sequence[float | None]) -> str:
    """Return mean, lowest and highest of the values of an arm."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean, low, high = (numeral(value) for value in (sum(known) / len(known), min(known), max(known)))
    return mean if low == high else f"{mean} ({low} to {high})"


def _row(paper: Paper, claims: Mapping[str, Mapping[str, Any]], why: Mapping[str, Sequence[str]]) -> str:
    """Return one row of the table; the claims of several studies stand below each other in their cells."""
    results, grades, effects = [], [], []
    for slug, claim in claims.items():
        results.append(f"[{claim['verdict']}](claims/{slug}.md)" + (", stale" if why[slug] else ""))
        grades.append(claim.get("grade", ""))
        low, high = claim["interval"]
        effects.append(f"{numeral(claim['effect'])} [{numeral(low)}, {numeral(high)}]")
    result, grade, effect = (" <br> ".join(cells) for cells in (results or ["not measured"], grades, effects))
    pieces = ", ".join(f"`{name}`" for name in sorted(paper.pieces))
    title = f"[{cell(paper.title)}]({paper.url})"
    return (
        f"| {paper.number:02d} | {title} (`{paper.slug}`) | {paper.date} | {pieces} | {result} | {grade} | {effect} |\n"
    )


def _opening(paper: Paper, claim: Mapping[str, Any], why: Sequence[str]) -> list[str]:
    """Return the paragraphs that say what was measured, on what, and with which result."""
    low, high = claim["interval"]
    lines = [
        f"# {paper.title}: {claim['verdict']}\n\n",
        f"Paper {paper.number:02d}, {paper.date}, [{paper.url}]({paper.url}). {paper.summary}\n\n",
    ]
    if why:
        lines.append(f"**Stale.** {cell(' '.join(why))}\n\n")
    lines += [
        f"**Claim.** {claim['statement']}\n\n",
        f"**Measured.** {claim['measured'][:1].upper()}{claim['measured'][1:]}: {numeral(claim['effect'])}, 95% "
        f"interval [{numeral(low)}, {numeral(high)}]; the threshold is {numeral(claim['threshold'])}.\n\n",
    ]
    if claim.get("grade"):
        lines.append(f"**Evidence.** Grade {claim['grade']}: {GRADES[claim['grade']]}.\n\n")
    if claim.get("trained"):
        lines.append(f"**Trained.** {sentence(claim['trained'])}\n\n")
    lines.append(f"**What would refute it.** {claim['falsifier']}\n\n")
    return lines


def _page(slug: str, paper: Paper, claim: Mapping[str, Any], why: Sequence[str], figure: bool) -> str:
    """Return the page of one measured claim, that of the study ``slug``."""
    lines = _opening(paper, claim, why)
    if figure:
        picture = f"../../claims/{slug}.png"
        lines.append(f"![Measurements by arm, and the effect with its interval]({picture})\n\n")
    quantities = list(dict.fromkeys(name for arm in claim["arms"].values() for name in arm))
    seeds = ", ".join(map(str, claim["seeds"]))
    lines.append(f"Mean over the seeds {seeds}, lowest and highest in brackets; `claims/{slug}.json` has each:\n\n")
    arms = list(claim["arms"])
    spreads = {(arm, name): _spread(claim["arms"][arm].get(name, ())) for arm in arms for name in quantities}
    # The longer list runs down the page.
    if len(arms) > len(quantities):
        head = ["arm", *quantities]
        rows = [[arm, *(spreads[arm, name] for name in quantities)] for arm in arms]
    else:
        head = ["measured", *arms]
        rows = [[name, *(spreads[arm, name] for arm in arms)] for name in quantities]
    for row in (head, ["---"] * len(head), *rows):
        lines.append("| " + " | ".join(cell(entry.replace("_", " ")) for entry in row) + " |\n")
    lines.append("\n")
    if claim["notes"]:
        lines += [*(f"- {cell(note)}\n" for note in claim["notes"]), "\n"]
    if tuned := claim.get("setup", {}).get("tuned"):
        lines += [*_tuned(tuned), "\n"]
    lines.append(f"Measure it again: `ferrule papers claim {slug} --size {claim['size']}`.\n")
    return "".join(lines)


def _tuned(tuned: Mapping[str, Any]) -> list[str]:
    """Return the table of what every arm was measured with, and what was tried for it."""
    name = tuned["setting"].replace("_", " ")
    seeds = ", ".join(map(str, tuned["seeds"]))
    values = [f"{value:g}" for value in tuned["values"]]
    lines = [f"The {name} of every arm was chosen on the seeds {seeds}, by {tuned['quantity']} in shorter runs:\n\n"]
    rows = [["arm", *values, "chosen"], ["---"] * (len(values) + 2)]
    rows += [
        [arm.replace("_", " "), *map(numeral, choice["means"]), f"{choice['value']:g}"]
        for arm, choice in tuned["arms"].items()
    ]
    return [*lines, *("| " + " | ".join(map(cell, row)) + " |\n" for row in rows)]


def pages(root: Path = ROOT) -> dict[Path, bytes]:
    """Return the content of every generated file by its path below ``root``."""
    contents: dict[Path, bytes] = {}
    rows = []
    for paper in discover():
        measured = {slug: stored(slug, root / "claims") for slug in studies(paper.slug)}
        claims = {slug: claim for slug, claim in measured.items() if claim is not None}
        why = {slug: stale(claim, study(slug), measure, root / "claims") for slug, claim in claims.items()}
        for slug, claim in claims.items():
            picture = root / "claims" / f"{slug}.png"
            page = NOTE + _page(slug, paper, claim, why[slug], picture.is_file())
            contents[Path("docs/claims") / f"{slug}.md"] = page.encode()
        rows.append(_row(paper, claims, why))
    contents[Path("docs/papers.md")] = (NOTE + INTRO + "".join(rows)).encode()
    return contents


def main(arguments: list[str] | None = None) -> int:
    """Write or check the pages; the exit status is 1 when a check finds one that is not up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a page is not up to date")
    options = parser.parse_args(arguments)
    wanted = pages()
    extra = [p.relative_to(ROOT) for p in (ROOT / "docs/claims").glob("*") if p.relative_to(ROOT) not in wanted]
    stale = [p for p, data in wanted.items() if not (ROOT / p).is_file() or (ROOT / p).read_bytes() != data]
    if options.check:
        for path in [*stale, *extra]:
            print(f"{path} is not up to date; run: python scripts/papers_table.py", file=sys.stderr)
        return 1 if stale or extra else 0
    for path in extra:
        (ROOT / path).unlink()
    for path in stale:
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_bytes(wanted[path])
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
