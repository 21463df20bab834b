"""``ferrule report``: write the HTML page of a run again."""

from __future__ import annotations

from pathlib import Path

import click

from ferrule.cli.options import emit, guarded

__all__ = ["command"]


@click.command("report")
@click.argument("name", default="demo")
@click.option("--json", "as_json", is_flag=True, help="Print where the page lies as JSON.")
@guarded
def command(name: str, as_json: bool) -> None:
    """Write report.html of runs/NAME (or of a folder)."""
    from ferrule.view.report import write_report

    folder = Path(name) if Path(name).is_dir() else Path("runs") / name
    if not folder.is_dir():
        runs = sorted(p.name for p in Path("runs").glob("*")) if Path("runs").is_dir() else []
        raise click.UsageError(f"unknown run {name!r}; runs here: {', '.join(runs) or 'none'}")
    path = write_report(folder)
    emit({"report": str(path)}, as_json, lambda: click.echo(str(path)))
