"""``ferrule data``: list what there is to play and to measure on, and fetch the data of a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ferrule.cli.options import emit, guarded

__all__ = ["command"]


@click.command("data")
@click.argument("name", required=False)
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), default=None,
    help="Folder to put it into [default: where benchmarks look by themselves].",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@guarded
def command(name: str | None, output: Path | None, as_json: bool) -> None:
    """List generated worlds and benchmarks, or fetch the data of the benchmark NAME once."""
    from ferrule.data.fetch import fetch, listing

    if name is None:
        if output is not None:
            raise click.UsageError("--output would do nothing without the name of a benchmark")
        rows = listing()
        emit(rows, as_json, lambda: click.echo("\n".join(map(_told, rows))))
        return
    where = fetch(name, output, progress=lambda line: click.echo(line, err=True))
    emit({"name": name, "folder": str(where)}, as_json, lambda: click.echo(str(where)))


def _told(row: dict[str, Any]) -> str:
    """Return what a person wants to know of one entry."""
    first = f"{row['name']}: {row['size']}; {row['from']}"
    if not row["get"]:
        return first
    lines = [f"{first} ({row['licence']})"]
    lines += [f"  play: {', '.join(row['worlds'])}"] if row["worlds"] != [row["name"]] else []
    lines += [f"  needs: {row['needs']}"] if row["needs"] else []
    lines += [f"  here: {row['here']}" if row["here"] else f"  get: {row['get']}"]
    return "\n".join(lines)
