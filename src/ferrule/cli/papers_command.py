"""``ferrule papers``: list published methods, explain one, measure its claim."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import click

from ferrule.cli.options import emit, guarded
from ferrule.papers import discover, find
from ferrule.studies.paper import Paper

__all__ = ["command", "stored"]


def stored(slug: str, folder: Path = Path("claims")) -> dict[str, Any] | None:
    """Return the stored claim of a paper: measured here (``claims/``), or the one shipped with the package."""
    package = Path(__file__).parents[1]
    shipped = (package / "papers" / "claims", package.parents[1] / "claims")  # in a wheel, in a checkout
    for path in (place / f"{slug}.json" for place in (folder, *shipped)):
        if path.is_file():
            data = json.loads(path.read_text(encoding="utf-8"))
            return data if isinstance(data, dict) else None
    return None


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


def _find(slug: str) -> Paper:
    try:
        return find(slug)
    except KeyError as error:
        raise click.UsageError(str(error.args[0])) from None


@command.command("show")
@click.argument("slug")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(slug: str, as_json: bool) -> None:
    """Explain one paper: what it is, how the module departs from it, its pieces, its claim."""
    paper = _find(slug)
    module = sys.modules[paper.claim.__module__]
    data = {**_row(paper), "about": inspect.getdoc(module), "claim": stored(slug)}

    def text() -> None:
        click.echo(f"{paper.number:02d} {paper.title} ({paper.date})\n{paper.url}\n\n{data['about']}\n")
        for name, piece in paper.pieces.items():
            first = (inspect.getdoc(piece) or "").split("\n")[0]
            click.echo(f"  {name}: {first}")
        if data["claim"]:
            claim = data["claim"]
            click.echo(
                f"\nclaim: {claim['statement']}\n"
                f"{claim['verdict']}: {claim['measured']} {claim['effect']:.4g} {claim['interval']}"
            )

    emit(data, as_json, text)


@command.command("claim")
@click.argument("slug")
@click.option("--scale", default="small", show_default=True, help="small, or what the paper module offers.")
@click.option("--json", "as_json", is_flag=True, help="Print the claim as JSON.")
@guarded
def claim(slug: str, scale: str, as_json: bool) -> None:
    """Measure a paper's claim again and store it with its figure under claims/."""
    measured = _find(slug).claim(scale).as_dict()
    folder = Path("claims")
    folder.mkdir(exist_ok=True)
    (folder / f"{slug}.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    try:
        from ferrule.view.figures import claim_figure

        claim_figure(measured, folder / f"{slug}.png")
    except ImportError as error:
        click.echo(f"no figure: {error}", err=True)

    def text() -> None:
        click.echo(f"{measured['verdict']}: {measured['statement']}")
        click.echo(f"{measured['measured']}: {measured['effect']:.4g}, 95 % interval {measured['interval']}")
        for note in measured["notes"]:
            click.echo(f"  note: {note}")

    emit(measured, as_json, text)
