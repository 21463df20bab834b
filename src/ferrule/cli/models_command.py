"""``ferrule models``: list, fetch, build and measure models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ferrule.cli.options import emit, guarded

__all__ = ["command"]


@click.group("models", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the models that --model accepts."""
    if ctx.invoked_subcommand is not None:
        return
    from ferrule.policies.models import listing

    rows = listing()

    def text() -> None:
        for row in rows:
            click.echo("  ".join(f"{key}: {value}" for key, value in row.items()))

    emit(rows, as_json, text)


@command.command("get")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print where it lies as JSON.")
@guarded
def get(name: str, as_json: bool) -> None:
    """Fetch a model once and turn it into safetensors."""
    from ferrule.policies.models import get as fetch

    where = fetch(name, progress=lambda line: click.echo(line, err=True))
    emit({"name": name, "folder": str(where)}, as_json, lambda: click.echo(str(where)))


@command.command("build")
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default=Path("runs/pocket"),
    show_default=True,
    help="Folder to write.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of corpus and weights.")
@click.option("--max-steps", default=None, type=int, help="Training steps [default: the full build].")
@click.option("--json", "as_json", is_flag=True, help="Print the build report as JSON.")
@guarded
def build(output_dir: Path, seed: int, max_steps: int | None, as_json: bool) -> None:
    """Build the pocket model from nothing (under half an hour on two cores)."""
    report = build_pocket(output_dir, seed, max_steps)
    emit(
        report,
        as_json,
        lambda: click.echo(f"{output_dir}: {report['parameters']} parameters, {report['minutes']} minutes"),
    )


def build_pocket(output_dir: Path, seed: int, max_steps: int | None) -> dict[str, Any]:
    """Run the build with a live line; ``max_steps=None`` takes the full length."""
    from dataclasses import replace

    from ferrule.policies.pocket.build import Build, build
    from ferrule.train.display import Display

    settings = replace(Build(seed=seed), **({} if max_steps is None else {"max_steps": max_steps}))
    with Display(settings.max_steps, title="pocket") as display:

        def progress(step: int, total: int, loss: float) -> None:
            if step % 10 == 0 or step == total:
                display.show({"phase": "train", "step": step, "loss": loss})

        return build(output_dir, settings, progress)


@command.command("card")
@click.option("--model", default="pocket", show_default=True, help="Model to measure.")
@click.option("--eval-tasks", default=100, show_default=True, help="Held-out tasks per world and level.")
@click.option("--output", type=click.Path(path_type=Path), default=None, help="Write the card (JSON) here as well.")
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON.")
@guarded
def card(model: str, eval_tasks: int, output: Path | None, as_json: bool) -> None:
    """Measure a model's capability card: success per world and level, with and without tools."""
    from ferrule.cli.options import load_policy
    from ferrule.evaluate.card import measure, table
    from ferrule.policies.pocket.corpus import PARTS
    from ferrule.worlds.named import world

    # The worlds of the pocket model's corpus: their prompts fit the smallest models.
    result = measure(load_policy(model), {name: world(name) for name in PARTS}, eval_tasks)
    if output is not None:
        from ferrule.train.logs import write_json

        write_json(output, result)
    emit(result, as_json, lambda: click.echo(table(result)))
