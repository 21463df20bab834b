"""One page that tells how a run went: ``report.html``, self-contained, readable without network and without scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.view import compare, episodes, figures, trees
from ferrule.view.load import Run, flatten, number, read_run, reader

if TYPE_CHECKING:
    import jinja2

__all__ = ["templates", "write_report"]

_SECRET = re.compile(r"(api_?key|secret|password|authorization|(^|_)token$)", re.IGNORECASE)


def templates() -> jinja2.Environment:
    """Return the templates of pages; everything that is put into a page is escaped."""
    try:
        import jinja2  # noqa: F401
    except ImportError as problem:
        raise ImportError('pages need jinja2: pip install "ferrule[view]"') from problem
    return _environment()


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    """Return one environment for all pages: to compile a template takes longer than to fill it in."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("ferrule.view"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _slug(key: str) -> str:
    """Return a metric name as a file name and element id."""
    return re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-") or "metric"


def _curves(run: Run, curves: Iterable[figures.Curve]) -> Iterator[dict[str, Any]]:
    """Draw every metric, write its PNG, and yield what the page shows of it."""
    from markupsafe import Markup

    used: set[str] = set()
    for curve in curves:
        slug = _slug(curve.key)
        while slug in used:
            slug += "-2"
        used.add(slug)
        first, last = (curve.say(value) for value in curve.ends)
        title = episodes.visible(curve.title)
        spoken = f"{title} over training steps, from {first} to {last}"
        png, svg = _drawn(tuple(curve.series.items()), curve.share, spoken, f"c-{slug}")
        path = run.folder / "figures" / f"{slug}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png)
        alike = "; ".join(map(episodes.visible, curve.alike))
        meaning = " ".join(filter(None, (episodes.visible(curve.meaning), f"The same numbers: {alike}." * bool(alike))))
        shown = {"title": title, "key": episodes.visible(curve.key), "meaning": meaning}
        # The drawing holds no text of the run except the names of its series, which matplotlib escapes.
        yield {**shown, "first": first, "last": last, "svg": Markup(svg)}


@lru_cache(maxsize=64)
def _drawn(series: tuple[Any, ...], share: bool, spoken: str, key: str) -> tuple[bytes, str]:
    """Return a curve as PNG and as SVG; the page of a run is written after training and again after an evaluation."""
    figure = figures.curve_figure(figures.Curve(key, "", share, dict(series)))
    return figures.png(figure), figures.inline_svg(figure, spoken, key)


def _table(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return nested data as (name, text) rows; values of secret settings are hidden."""
    rows = []
    for key, value in flatten(data).items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        hidden = bool(_SECRET.search(key.rsplit("/", 1)[-1])) and isinstance(value, str) and value
        rows.append((episodes.visible(key), "(hidden)" if hidden else episodes.visible(shown)))
    return rows


def _warnings(run: Run) -> list[tuple[str, str]]:
    """Return the health warnings as (when, what); equal ones are shown once with their count."""
    by_text: dict[str, list[str]] = {}
    for row in run.warnings:
        message = row.get("message", row.get("text", row.get("warning")))
        step = row.get("step")
        rest = {key: value for key, value in row.items() if key not in ("step", "time")}
        what = message if isinstance(message, str) else json.dumps(rest, ensure_ascii=False, default=str)
        by_text.setdefault(what, []).append("" if step is None else str(step))
    result = []
    for what, steps in by_text.items():
        when = f"step {steps[0]}" if steps[0] else ""
        if len(steps) > 1:
            when = f"{when} and {len(steps) - 1} more times".removeprefix(" and ")
        result.append((episodes.visible(when), episodes.visible(what)))
    return result


def _facts(run: Run) -> list[tuple[str, str]]:
    """Return the few facts that stand under the title, each only where it was recorded."""
    settings, versions = flatten(run.settings), flatten(run.versions)
    steps = [step for row in run.metrics if (step := number(row.get("step"))) is not None]
    clock = [number(row.get("seconds")) or 0.0 for row in run.metrics if row.get("phase", "train") == "train"]
    # The clock starts anew when a run is resumed, so every fall closes one stretch.
    seconds = sum(now for now, then in pairwise([*clock, 0.0]) if then < now)
    facts = [(name, settings.get(key)) for name, key in (("model", "model"), ("world", "world"), ("seed", "seed"))]
    facts.append(("steps", f"{max(steps):,.0f}" if steps else None))
    if seconds:
        facts.append(("training time", f"{int(seconds // 60)} min {int(seconds % 60)} s"))
    facts.append(("device", versions.get("device")))
    facts.append(("cores", versions.get("cores")))
    shown = [
        (name, value if isinstance(value, str) else json.dumps(value)) for name, value in facts if value is not None
    ]
    return [(name, episodes.visible(value)) for name, value in shown if value]


def _verdict(run: Run, blocks: list[compare.Block], samples: list[episodes.Sample], alone: bool) -> str:
    """Say in one sentence how the run went, or how many episodes were solved where there is nothing else."""
    if not alone:
        return compare.verdict(blocks)
    scored = [item.solved for item in samples if item.solved is not None]
    if not scored or run.recorded > len(samples):
        return f"{run.recorded:,} recorded episode{'s' * (run.recorded != 1)}."
    return f"{sum(scored):,} of {len(scored):,} episodes solved."


def _tasks(samples: list[episodes.Sample]) -> list[dict[str, Any]]:
    """Return the chosen episodes by task, those of one task side by side."""
    chosen = episodes.choose(sorted(samples, key=lambda item: item.arm.startswith("without")))
    tasks = []
    for (name, prompt), items in groupby(chosen, key=lambda item: (item.task, item.prompt)):
        listed = list(items)
        shared = [fact for fact in listed[0].facts if all(fact in item.facts for item in listed)]
        tasks.append({"id": name, "prompt": episodes.text(prompt), "facts": shared, "samples": listed})
    return tasks


def write_report(run_dir: str | Path) -> Path:
    """Write ``report.html`` and ``figures/*.png`` from the files of a run folder and return the page's path.

    Reads ``settings.json``, ``versions.json``, ``metrics.jsonl``, ``evaluations.json``, ``warnings.jsonl`` and the
    episodes of ``evaluation.jsonl`` (``episodes.jsonl`` where nothing was evaluated); whatever is missing or damaged is
    named on the page, and a folder of episodes alone gets a page of those. Raises ``FileNotFoundError`` when the folder
    is missing and ``ImportError`` when the ``view`` extra is not installed.
    """
    environment = templates()
    run = read_run(run_dir)
    read, blocks = reader(run.folder), compare.blocks(run.evaluations)
    samples = [episodes.sample(row, read) for row in run.episodes]
    alone = bool(samples) and not (run.metrics or run.evaluations or run.settings or run.versions)
    curves = figures.curves(run.metrics)
    steady = [(episodes.visible(c.title), c.say(c.ends[0])) for c in curves if c.constant]
    page = environment.get_template("report.html.j2").render(
        name=episodes.visible(run.name),
        verdict=episodes.visible(_verdict(run, blocks, samples, alone)),
        alone=alone,
        facts=_facts(run),
        blocks=blocks,
        curves=list(_curves(run, figures.distinct(curve for curve in curves if not curve.constant))),
        steady=steady,
        tasks=_tasks(samples),
        count=trees.count,
        recorded=run.recorded,
        settings=_table(run.settings),
        versions=_table(run.versions),
        warnings=_warnings(run),
        troubles=[episodes.visible(trouble) for trouble in run.troubles],
    )
    target = run.folder / "report.html"
    fresh = target.with_suffix(".html.part")
    fresh.write_text(page, encoding="utf-8")
    fresh.replace(target)
    return target
