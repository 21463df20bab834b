"""``ferrule doctor``: what this machine offers."""

from __future__ import annotations

import json

import click

__all__ = ["command"]


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Try out the isolation, number formats and extras of this machine and report the results."""
    from rich.console import Console
    from rich.tree import Tree

    from ferrule.sandbox.doctor import doctor

    report = doctor()
    if as_json:
        click.echo(json.dumps(report, indent=1, default=str))
        return
    tree = Tree("ferrule doctor")

    def grow(branch: Tree, data: object) -> None:
        if isinstance(data, dict):
            for key, value in data.items():
                if isinstance(value, dict):
                    grow(branch.add(str(key)), value)
                else:
                    branch.add(f"{key}: {value}")

    grow(tree, report)
    Console().print(tree, markup=False)
