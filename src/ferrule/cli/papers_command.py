"""``ferrule papers``: list published methods, explain one, measure its claim."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ferrule.cli.options import emit, guarded, workers
from ferrule.papers import discover, find, studies, study
from ferrule.studies.paper import Paper
from ferrule.studies.stored import stored
from ferrule.studies.study import Study

__all__ = ["command"]


def _row(paper: Paper) -> dict[str, Any]:
    claim = stored(paper.slug)
    return {
        "number": paper.number,
        "slug": paper.slug,
        "title": paper.title,
        "date": paper.date,
        "url": paper.url,
        "pieces": sorted(paper.pieces),
        "claim": None if claim is None else {key: claim[key] for key in ("verdict", "effect", "interval", "measured")},
    }


@click.group("papers", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List published methods with the results of their claims."""
    if ctx.invoked_subcommand is not None:
        return
    rows = [_row(paper) for paper in discover()]

    def text() -> None:
        from rich.console import Console
        from rich.table import Table

        table = Table()
        for column in ("number", "slug", "title", "date", "claim", "effect [95 % interval]"):
            table.add_column(column)
        for row in rows:
            claim = row["claim"]
            effect = (
                ""
                if claim is None
                else f"{claim['effect']:.3g} [{claim['interval'][0]:.3g}, {claim['interval'][1]:.3g}]"
            )
            verdict = "not measured" if claim is None else claim["verdict"]
            table.add_row(f"{row['number']:02d}", row["slug"], row["title"], row["date"], verdict, effect)
        Console(width=max(100, Console().width)).print(table)

    emit(rows, as_json, text)


def _span(interval: Sequence[float]) -> str:
    return f"[{interval[0]:.4g}, {interval[1]:.4g}]"


def _find(slug: str) -> Paper:
    try:
        return find(slug)
    except KeyError as error:
        raise click.UsageError(str(error.args[0])) from None


def _study(slug: str) -> Study:
    try:
        return study(slug)
    except KeyError as error:
        raise click.UsageError(str(error.args[0])) from None


@command.command("show")
@click.argument("slug")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(slug: str, as_json: bool) -> None:
    """Explain one paper: what it is, how the module departs from it, its pieces, its claim."""
    paper = _find(slug)
    module = importlib.import_module(f"ferrule.papers.{paper.slug.replace('-', '_')}")
    claims = {name: claim for name in studies(slug) if (claim := stored(name)) is not None}
    data = {
        **_row(paper),
        "about": inspect.getdoc(module),
        "reported": paper.reported,
        "claim": stored(slug),
        "claims": claims,
    }

    def text() -> None:
        click.echo(f"{paper.number:02d} {paper.title} ({paper.date})\n{paper.url}\n\n{data['about']}\n")
        for name, piece in paper.pieces.items():
            first = (inspect.getdoc(piece) or "").split("\n")[0]
            click.echo(f"  {name}: {first}")
        if paper.reported:
            click.echo(f"\nreported: {paper.reported}")
        for claim in claims.values():
            effect = f"{claim['effect']:.4g}, 95 % interval {_span(claim['interval'])}"
            click.echo(f"\nclaim: {claim['statement']}\n{claim['verdict']}: {claim['measured']} {effect}")

    emit(data, as_json, text)


@command.command("claim")
@click.argument("slugs", nargs=-1, metavar="SLUG...")
@click.option("--all", "everything", is_flag=True, help="Measure all claims of all papers.")
@click.option(
    "--size", default="small", show_default=True, help="small (what is stored), tiny, or what a study offers."
)
@click.option("--seeds", default=None, help="Seeds instead of the study's own, for example 0-4 or 100,101,102.")
@workers
@click.option(
    "--folder", default="claims", show_default=True, type=click.Path(path_type=Path), help="Where claims lie."
)
@click.option("--json", "as_json", is_flag=True, help="Print the claims as JSON.")
@guarded
def claim(
    slugs: tuple[str, ...], everything: bool, size: str, seeds: str | None, jobs: int, ray: str | None, folder: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure claims and store them with their figures; what is measured already is not measured again.

    SLUG names a study: that of a paper, or a further one of it, such as otc-pocket.
    """
    from ferrule.papers import measure as call
    from ferrule.studies.measure import measure

    if everything == bool(slugs):
        raise click.UsageError("name papers, or give --all")
    chosen = [_study(slug) for slug in (studies() if everything else slugs)]
    claims = measure(
        chosen, call, folder, size=size, seeds=_seeds(seeds), workers=jobs, ray=ray,
        show=lambda line: click.echo(line, err=True),
    )  # fmt: skip

    def text() -> None:
        for measured in claims:
            click.echo(f"{measured.slug}, {measured.verdict}: {measured.statement}")
            click.echo(f"{measured.measured}: {measured.effect:.4g}, 95 % interval {_span(measured.interval)}")
            for note in measured.notes:
                click.echo(f"  note: {note}")

    emit([measured.as_dict() for measured in claims], as_json, text)


def _seeds(text: str | None) -> list[int] | None:
    """Read ``0-4`` or ``0,2,5``."""
    if text is None:
        return None
    numbers: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            numbers += range(int(first), int(last or first) + 1)
    except ValueError:
        raise click.UsageError(f"--seeds is {text!r}; write 0-4 or 100,101,102") from None
    return numbers
