"""``ferrule memory``: look at a library, add to it, export and prune it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ferrule.cli.options import emit, guarded

__all__ = ["command"]


@click.group("memory")
def command() -> None:
    """Look at a library of what was learned, add to it, export and prune it."""


def _opened(path: Path) -> Any:
    from ferrule.memory.library import Library

    if not path.is_file() or not path.stat().st_size:  # an empty file would become a library
        raise click.UsageError(f"no library {str(path)!r}; ferrule eval --memory and ferrule memory add make one")
    return Library(path)


def _data(entry: Any) -> dict[str, Any]:
    from ferrule.core.exact import plain

    return {**plain(entry), "worth": entry.tally.worth}


_path = click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
_json = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


@command.command("show")
@_path
@click.argument("id", required=False)
@click.option("--every", is_flag=True, help="The retired and deleted entries as well.")
@_json
@guarded
def show(path: Path, id: str | None, every: bool, as_json: bool) -> None:
    """List the entries of the library PATH, or show all versions of the entry ID and where it comes from."""
    library = _opened(path)
    if id is None:
        entries = library.entries(every=every)
        rows = [_data(entry) for entry in entries]
        emit({"entries": rows, "taxonomy": library.taxonomy()}, as_json, lambda: _table(entries))
        return
    try:
        entry = library[id]
    except KeyError as error:
        raise click.UsageError(str(error.args[0])) from None
    versions = library.versions(id)
    log = [row for row in library.store.log() if id in row["ids"] and row["kind"] != "keep"]
    data = {**_data(entry), "versions": [_data(version) for version in versions], "log": log}
    emit(data, as_json, lambda: _entry(entry, versions, log))


def _shown(text: str) -> str:
    """Return a text that moves no cursor and colours nothing: whoever wrote it may have been a model."""
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)


def _table(entries: Sequence[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    grid = Table()
    for column in ("id", "state", "shown", "cited", "worth", "when", "text"):
        grid.add_column(column, justify="right" if column in ("shown", "cited", "worth") else "left")
    for entry in entries:
        tally = entry.tally
        grid.add_row(
            entry.id,
            entry.state,
            str(tally.shown),
            str(tally.cited),
            f"{tally.worth:+.2f}",
            _shown(entry.when),
            _shown(entry.text),
        )
    Console(width=max(120, Console().width), markup=False).print(grid)


def _entry(entry: Any, versions: Sequence[Any], log: Sequence[Mapping[str, Any]]) -> None:
    tally = entry.tally
    click.echo(f"{entry.id} ({entry.kind}, {entry.state}), version {entry.version}")
    for name, text in (("when", entry.when), ("text", entry.text)):
        if text:
            click.echo(f"  {name}: {_shown(text)}")
    for origin in entry.origins:
        turn = "" if origin.turn is None else f", turn {origin.turn}"
        click.echo(f"  learned from: {origin.task}, sample {origin.sample}{turn}, by {origin.writer or 'nobody named'}")
    if entry.merged:
        click.echo(f"  merged: {', '.join(entry.merged)}")
    click.echo(f"  shown in {tally.shown} episodes, cited in {tally.cited}, mean credit {tally.worth:+.3f}")
    for version in versions[:-1]:
        click.echo(
            f"  version {version.version}: {_shown(f'{version.when}: ' if version.when else '')}{_shown(version.text)}"
        )
    for row in log:
        note = f" ({row['note']})" if row["note"] else ""
        click.echo(f"  {row['kind']} {' '.join(row['ids'])}{note}")


@command.command("add")
@_path
@click.argument("text")
@click.option("--when", default="", help="The condition under which it applies.")
@click.option("--skill", is_flag=True, help="A document that stands on its own.")
@_json
@guarded
def add(path: Path, text: str, when: str, skill: bool, as_json: bool) -> None:
    """Add TEXT to the library PATH, which is made where it is missing."""
    from ferrule.memory.entries import EXPERIENCE, SKILL, Origin
    from ferrule.memory.library import Library

    origin = Origin("", writer="person")
    entry = Library(path).add(text, when=when, kind=SKILL if skill else EXPERIENCE, origins=(origin,))
    emit(_data(entry), as_json, lambda: click.echo(entry.id))


@command.command("export")
@_path
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--every", is_flag=True, help="The retired and deleted entries as well.")
@_json
@guarded
def export(path: Path, target: Path, every: bool, as_json: bool) -> None:
    """Write the entries of the library PATH to TARGET: as Markdown (.md), else one JSON line each."""
    from ferrule.memory.files import as_lines, as_page

    if target.exists() and target.samefile(path):
        raise click.UsageError(f"{str(target)!r} is the library itself; export it to another file")
    entries = _opened(path).entries(every=every)
    target.write_text((as_page if target.suffix == ".md" else as_lines)(entries), encoding="utf-8")
    data = {"entries": len(entries), "file": str(target)}
    emit(data, as_json, lambda: click.echo(f"{len(entries)} entries: {target}"))


def _conditions(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--writer", default=None, help="All that this writer wrote."),
        click.option("--task", default=None, help="All that was learned from this task, merged entries included."),
        click.option("--shown", default=8, show_default=True, help="With --worth: after so many episodes."),
        click.option("--worth", default=None, type=float, help="Entries whose mean credit is below this."),
        click.option("--limit", default=None, type=int, help="The least worthy ones beyond so many."),
    ):
        function = option(function)
    return function


@command.command("prune")
@_path
@_conditions
@_json
@guarded
def prune(path: Path, as_json: bool, **given: Any) -> None:
    """Retire entries of the library PATH; they are recalled no more, and their record stays."""
    if all(given[name] is None for name in ("limit", "worth", "task", "writer")):
        raise click.UsageError("say what to retire: --limit, --worth, --task or --writer")
    library = _opened(path)
    ids = library.prune(**given)
    data = {"retired": ids, "entries": len(library)}
    emit(data, as_json, lambda: click.echo(f"retired: {', '.join(ids) or 'none'}; {data['entries']} entries are left"))
