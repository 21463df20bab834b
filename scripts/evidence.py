"""Write ``docs/evidence.md`` and its two figures from the stored claims, what they took, and the stored arenas.

``python scripts/evidence.py`` writes them, ``--check`` only tells whether they are up to date.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ferrule.evaluate.profile_page import apart_text
from ferrule.evaluate.standings import as_points, as_share
from ferrule.papers import discover, measure, studies, study
from ferrule.policies.named import weights_digest
from ferrule.studies.conditions import within
from ferrule.studies.measure import stale
from ferrule.studies.paper import GRADES, Paper
from ferrule.studies.stored import stored
from ferrule.studies.study import Study
from ferrule.studies.telling import cell, cost_of, numeral, sentence
from ferrule.view.evidence import Effect, effect_of

__all__ = ["Row", "agents_part", "main", "page", "profile_part", "rows_of", "training_part"]

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path("docs/evidence.md")
EFFECTS, ARENAS = Path("docs/assets/evidence-effects.png"), Path("docs/assets/evidence-arenas.png")
TRAINING, AGENTS = Path("docs/records/arena.json"), Path("benchmarks/results/agents.json")
PROFILE = Path("docs/records/arena-profile/arena.json")
NOTE = "<!-- Written by scripts/evidence.py. Do not edit. -->\n\n"
INTRO = """\
# Evidence

What was measured here of what papers on tool use claim, at the scale of two processor cores, and what came out. Every
line can be run again by the command beside it. A verdict is about this scale: *not held* does not say that a paper is
wrong. The grade says how strong the evidence is: A, a language model on held-out tasks of a world; B, learning on a
stand-in for a model or a world; C, an illustration of the formula. Intervals are 95% over training seeds. Of several
conditions that decide, the one is shown that fails or is least sure.
"""


@dataclass(frozen=True)
class Row:
    """One study: its paper, what it asks, the stored claim (None before it is measured), and why that is stale."""

    slug: str
    paper: Paper
    study: Study
    claim: Mapping[str, Any] | None
    why: Sequence[str] = ()
    cost: str = ""

    @property
    def effect(self) -> str:
        """The effect with its interval and its threshold."""
        if self.claim is None:
            return ""
        low, high = self.claim["interval"]
        effect = f"{numeral(self.claim['effect'])} [{numeral(low)}, {numeral(high)}]"
        return f"{effect}; {'margin' if self.margin else 'threshold'} {numeral(self.claim['threshold'])}"

    @property
    def verdict(self) -> str:
        """The verdict, and whether it is stale."""
        return f"{self.claim['verdict']}{', stale' if self.why else ''}" if self.claim else "not measured"

    @property
    def margin(self) -> bool:
        """Whether the condition that is shown asks for equivalence."""
        asked = {condition.name: condition for condition in self.study.asks}
        shown = asked.get(self.claim["measured"]) if self.claim else None
        return shown is not None and shown.judge is within("", shown.value, 1.0).judge


def rows_of(root: Path = ROOT) -> list[Row]:
    """Return a row for every study, by the number of its paper."""
    rows = []
    for paper in discover():
        for slug in studies(paper.slug):
            asked, claim = study(slug), stored(slug, root / "claims")
            if claim is None:
                rows.append(Row(slug, paper, asked, None))
                continue
            why = stale(claim, asked, measure, root / "claims")
            rows.append(Row(slug, paper, asked, claim, why, str(cost_of(claim, slug, root / "claims") or "")))
    return rows


def _command(row: Row) -> str:
    size = row.claim["size"] if row.claim else "small"
    return f"`ferrule papers claim {row.slug} --size {size}`"


def _spans(seeds: Sequence[int]) -> str:
    """Return seeds in words, as a span where they follow each other."""
    if list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{len(seeds)} seeds, {seeds[0]} to {seeds[-1]}"
    return f"{len(seeds)} seeds: {', '.join(map(str, seeds))}"


def _counts(rows: Sequence[Row]) -> str:
    """Return how many claims of each grade came out how, as a table."""
    verdicts = ("held", "undecided", "not held")
    found = Counter((row.claim["grade"], row.claim["verdict"]) for row in rows if row.claim)
    waiting = Counter(row.study.grade for row in rows if row.claim is None)
    aged = Counter(row.claim["grade"] for row in rows if row.claim and row.why)
    lines = [
        "| grade | held | undecided | not held | of these stale | not measured |\n",
        "| --- |" + " ---: |" * 5 + "\n",
    ]
    for grade, meaning in GRADES.items():
        numbers = [*(found[grade, verdict] for verdict in verdicts), aged[grade], waiting[grade]]
        lines.append(f"| {grade}: {meaning} | " + " | ".join(map(str, numbers)) + " |\n")
    return "".join(lines)


def _table(rows: Sequence[Row]) -> str:
    """Return the overview: one line per study."""
    lines = [
        "| no. | study | grade | verdict | effect [95% interval] | cost |\n",
        "| --- | --- | --- | --- | --- | --- |\n",
    ]
    for row in rows:
        grade = row.claim["grade"] if row.claim else row.study.grade
        lines.append(
            f"| {row.paper.number:02d} | [{row.slug}](#{_anchor(row)}) | {grade} | {row.verdict} | {row.effect} "
            f"| {row.cost} |\n"
        )
    return "".join(lines)


def _anchor(row: Row) -> str:
    return f"{row.paper.number:02d}-{row.slug}"


def _section(row: Row) -> str:
    """Return what is known of one study."""
    claim, asked = row.claim, row.study
    lines = [
        f"### {row.paper.number:02d} {row.slug}\n\n",
        f"[{cell(row.paper.title)}]({row.paper.url}), {row.paper.date}.\n\n",
    ]
    items = {"Statement": claim["statement"] if claim else asked.statement}
    if claim:
        result = f"{claim['verdict']}, by {cell(claim['measured'])}: {row.effect} ({_spans(claim['seeds'])}; "
        items["Result"] = f"{result}[all numbers](claims/{row.slug}.md))"
    else:
        items["Result"] = f"not measured yet ({_spans(asked.seeds)} planned)"
    grade = claim["grade"] if claim else asked.grade
    items["Grade"] = f"{grade}, {GRADES[grade]}"
    if trained := claim.get("trained") if claim else asked.trained:
        items["Trained"] = trained
    if row.cost:
        items["Cost"] = row.cost
    if row.why:
        items["Stale"] = " ".join(row.why)
    items["What would refute it"] = claim["falsifier"] if claim else asked.falsifier
    items["The paper at its scale"] = row.paper.reported or "no figures known"
    lines += [f"- {name}: {sentence(cell(text))}\n" for name, text in items.items()]
    return "".join([*lines, f"- Again: {_command(row)}\n\n"])


def _apart(rows: Sequence[Mapping[str, Any]], name: str, sign: int) -> list[str]:
    """Return the rows whose interval lies wholly above (or below) 0, with their difference in points."""
    return [
        f"`{row[name]}` {as_points(row['difference'], row['difference_interval'])}"
        for row in rows
        if row["difference_interval"] and all(sign * end > 0 for end in row["difference_interval"])
    ]


def _or_none(found: Sequence[str]) -> str:
    return ", ".join(found) if found else "none"


def _weights(about: Mapping[str, Any]) -> str:
    """Say which weights an arena was played with, and whether they are those of today."""
    played, today = about.get("weights"), weights_digest(about["model"])
    if played is None:
        return f"The record does not say which weights of `{about['model']}` it was played with."
    if played == today:
        return f"It was played with the weights of `{about['model']}` that the package ships (`{played}`)."
    return (
        f"**It was played with earlier weights of `{about['model']}`** (`{played}`; the package ships `{today}` now), "
        "so its numbers compare with each other and with nothing else on this page."
    )


def training_part(data: Mapping[str, Any]) -> str:
    """Return what the stored arena of recipes says."""
    about, rows = data["about"], data["rows"]
    against = about["against"]
    better, worse = (_apart(rows, "recipe", sign) for sign in (1, -1))
    alike = [
        f"`{row['recipe']}` {as_points(row['difference'], row['difference_interval'])}"
        for row in rows
        if row["difference_interval"] and row["difference_interval"][0] <= 0 <= row["difference_interval"][1]
    ]
    reached = next(row for row in rows if row["recipe"] == against)
    shorter = [
        f"`{row['recipe']}` {row['tokens']:.0f} tokens and {row['calls']:.2f} calls per task"
        for row in rows
        if row["difference_interval"] and row["tokens"] < reached["tokens"]
    ]
    share = as_share(reached["success"], reached["success_interval"])
    return (
        f"### Recipes\n\n{_weights(about)} {len(about['recipes'])} recipes, {about['budget']:,} generated tokens per "
        f"run on {', '.join(about['worlds'])}, {_spans(about['seeds'])}, one learning rate for all "
        f"({about['learning_rate']:g}). `{against}` reaches {share}.\n\n"
        f"- Better than `{against}` by the interval: {_or_none(better)}.\n- Worse: {_or_none(worse)}.\n"
        f"- Not told apart: {_or_none(alike)}.\n"
        f"- Shorter episodes at the end (`{against}`: {reached['tokens']:.0f} tokens and {reached['calls']:.2f} calls "
        f"per task): {_or_none(shorter)}.\n- [All numbers](arena.md). Again: `{about['command']}`.\n\n"
    )


def profile_part(data: Mapping[str, Any]) -> str:
    """Return what the stored arena with a profile says: column by column, and who is told apart."""
    about, against = data["about"], data["about"]["against"]
    rates = ", ".join(f"{rate:g}" for rate in about["rates"])
    lines = [
        f"### Recipes, column by column\n\n{_weights(about)} {len(about['recipes'])} recipes, {about['budget']:,} "
        f"generated tokens per run on one mixture, each recipe at the best of the rates {rates}.\n\n"
    ]
    for name in (*(column["name"] for column in about["columns"]), "all"):
        rows = [{"recipe": row["recipe"], **row["columns"][name]} for row in data["rows"] if row["seeds"]]
        reached = next(row for row in rows if row["recipe"] == against)
        better, worse = (_apart(rows, "recipe", sign) for sign in (1, -1))
        head = "Mean over columns" if name == "all" else f"`{name}`"
        lines.append(
            f"- {head}: `{against}` reaches {as_share(reached['success'], reached['interval'])}. Better by the "
            f"interval: {_or_none(better)}; worse: {_or_none(worse)}.\n"
        )
    return "".join([*lines, f"\n{apart_text(data)}\n[All numbers](arena-profile.md). Again: `{about['command']}`.\n\n"])


def agents_part(data: Mapping[str, Any]) -> str:
    """Return what the stored arena of agents says, world by world."""
    about = data["about"]
    lines = [
        f"### Agents\n\n{_weights(about)} {len(about['agents'])} agents without any training, at most "
        f"{about['budget']:,} written tokens per task, {about['eval_tasks']} held-out tasks per world and seed, "
        f"{_spans(about['seeds'])}.\n\n"
    ]
    for world in about["worlds"]:
        rows = [row for row in data["rows"] if row["world"] == world]
        first = next(row for row in rows if row["agent"] == about["against"])
        share = as_share(first["success"], first["success_interval"])
        better, worse = (_apart(rows, "agent", sign) for sign in (1, -1))
        price = ", ".join(f"`{row['agent']}` {row['tokens'] / first['tokens']:.1f}" for row in rows if row is not first)
        lines.append(
            f"- On `{world}`, `{about['against']}` solves {share}. Better by the interval: "
            f"{_or_none(better)}; worse: {_or_none(worse)}. Tokens written, in multiples of "
            f"`{about['against']}`: {price}.\n"
        )
    return "".join([*lines, f"- Again: `{about['command']}`.\n\n"])


def _failed(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line for every claim that was not held, and for those that stay open."""
    for verdict in ("not held", "undecided"):
        for row in rows:
            if row.claim and row.claim["verdict"] == verdict:
                what = sentence(cell(row.claim["statement"]))
                head = f"- {row.paper.number:02d} [{row.slug}](#{_anchor(row)}), {row.verdict}: "
                yield f"{head}{what} {sentence(cell(row.claim['measured']) + ': ' + row.effect)}\n"


def page(
    rows: Sequence[Row],
    training: Mapping[str, Any],
    agents: Mapping[str, Any],
    profile: Mapping[str, Any] | None = None,
) -> str:
    """Return the page; ``profile`` is the arena with columns, where one is stored."""
    waiting = [f"`{row.slug}` ({row.study.grade})" for row in rows if row.claim is None]
    parts = [
        INTRO,
        "\n",
        _counts(rows),
        "\n![Every effect with its interval against its threshold, by grade](assets/evidence-effects.png)\n\n",
        "Each row has its own scale, the farthest end of its interval being one unit from the threshold; the numbers "
        "stand beside it. Stale claims have a star.\n\n",
        _table(rows),
        f"\nNot measured yet: {_or_none(waiting)}.\n\n",
        "## What the arenas say\n\n",
        "![Recipes against plain GRPO, agents against the plain loop](assets/evidence-arenas.png)\n\n",
        profile_part(profile) if profile else "",
        training_part(training),
        agents_part(agents),
        "## What did not help\n\nClaims that were not held, then those that stayed open:\n\n",
        *_failed(rows),
        "\n## Study by study\n\n",
        *map(_section, rows),
    ]
    return NOTE + "".join(parts).rstrip() + "\n"


def _effects(rows: Sequence[Row]) -> list[Effect]:
    return [
        effect_of(
            row.claim, f"{row.paper.number:02d} {row.slug}{'*' if row.why else ''}", row.effect, margin=row.margin
        )
        for row in rows
        if row.claim
    ]


def _digest(data: Any) -> str:
    """Return what a picture was drawn from, in short; it stands in the file's comment."""
    return hashlib.blake2b(json.dumps(data, sort_keys=True).encode(), digest_size=12).hexdigest()


def _draw(rows: Sequence[Row], training: Mapping[str, Any], agents: Mapping[str, Any]) -> None:
    from ferrule.view.evidence import arenas_figure, effects_figure
    from ferrule.view.figures import write_png

    marks = _marks(rows, training, agents)
    for path, figure in ((EFFECTS, effects_figure(_effects(rows))), (ARENAS, arenas_figure(training, agents))):
        write_png(figure, ROOT / path, dpi=200, comment=marks[path])


def _marks(rows: Sequence[Row], training: Mapping[str, Any], agents: Mapping[str, Any]) -> dict[Path, str]:
    """Return the digest of what each picture shows."""
    return {
        EFFECTS: _digest([asdict(effect) for effect in _effects(rows)]),
        ARENAS: _digest([data["rows"] for data in (training, agents)]),
    }


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page and its pictures; return 1 when a check finds one that is not up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when something is not up to date")
    check = parser.parse_args(arguments).check
    rows = rows_of()
    training, agents = (json.loads((ROOT / path).read_text(encoding="utf-8")) for path in (TRAINING, AGENTS))
    stored_profile = ROOT / PROFILE
    profile = json.loads(stored_profile.read_text(encoding="utf-8")) if stored_profile.is_file() else None
    wanted = page(rows, training, agents, profile)
    if not check:
        (ROOT / PAGE).write_text(wanted, encoding="utf-8")
        _draw(rows, training, agents)
        return 0
    outdated = [] if (ROOT / PAGE).is_file() and (ROOT / PAGE).read_text(encoding="utf-8") == wanted else [PAGE]
    for path, mark in _marks(rows, training, agents).items():
        if not (ROOT / path).is_file() or mark.encode() not in (ROOT / path).read_bytes():
            outdated.append(path)
    for path in outdated:
        print(f"{path} is not up to date; run: python scripts/evidence.py", file=sys.stderr)
    return int(bool(outdated))


if __name__ == "__main__":
    sys.exit(main())
