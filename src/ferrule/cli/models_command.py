"""``ferrule models``: list, fetch, build, merge and measure models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ferrule.cli.model_options import computing_flags, computing_options, device_flag, load_policy
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
@click.argument("name", type=click.Choice(["pocket", "pocket-s"]), default="pocket")
@click.option(
    "--output-dir", type=click.Path(path_type=Path), default=None, help="Folder to write [default: runs/NAME]."
)
@click.option("--seed", default=0, show_default=True, help="Seed of corpus and weights.")
@click.option("--max-steps", default=None, type=int, help="Training steps [default: the full build].")
@click.option("--learning-rate", default=None, type=float, help="Highest rate [default: the full build's].")
@click.option("--threads", default=None, type=int, help="Threads to compute with [default: PyTorch's].")
@click.option("--fresh", is_flag=True, help="Begin anew instead of going on with a build that was stopped.")
@click.option("--json", "as_json", is_flag=True, help="Print the build report as JSON.")
@guarded
def build(
    name: str,
    output_dir: Path | None,
    seed: int,
    max_steps: int | None,
    learning_rate: float | None,
    threads: int | None,
    fresh: bool,
    as_json: bool,
) -> None:
    """Build the pocket model, or the smaller pocket-s, from nothing; the same command goes on where it was stopped."""
    from dataclasses import replace

    from ferrule.policies.pocket.build import PRESETS
    from ferrule.policies.pocket.build import build as build_pocket

    given: dict[str, Any] = {"max_steps": max_steps, "learning_rate": learning_rate}
    settings = replace(PRESETS[name], seed=seed, **{key: value for key, value in given.items() if value is not None})
    folder = output_dir or Path("runs") / name
    report = build_pocket(folder, settings, threads=threads, fresh=fresh, say=lambda line: click.echo(line, err=True))
    emit(
        report,
        as_json,
        lambda: click.echo(f"{folder}: {report['parameters']} parameters, {report['minutes']} minutes"),
    )


@command.command("merge")
@click.argument("name")
@click.option("--output-dir", type=click.Path(path_type=Path), help="Folder to write [default: runs/merged].")
@computing_flags
@click.option("--json", "as_json", is_flag=True, help="Print where it lies as JSON.")
@guarded
def merge(name: str, output_dir: Path | None, as_json: bool, **given: Any) -> None:
    """Add the adapters in folder NAME to the model they belong to, and write the whole model."""
    folder = output_dir or Path("runs") / "merged"
    if folder.exists() and any(folder.iterdir()):
        raise click.UsageError(f"{folder} holds files; choose another folder with --output-dir")
    policy = load_policy(name, weights=True, **computing_options(given))
    policy.merge_adapter()
    policy.save(folder)
    emit({"name": name, "folder": str(folder)}, as_json, lambda: click.echo(str(folder)))


@command.command("card")
@click.option("--model", default="pocket", show_default=True, help="Model to measure.")
@device_flag
@click.option("--eval-tasks", default=200, show_default=True, help="Held-out tasks per level and skill.")
@click.option("--output", type=click.Path(path_type=Path), default=None, help="Write the card (JSON) here as well.")
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON.")
@guarded
def card(model: str, device: str | None, eval_tasks: int, output: Path | None, as_json: bool) -> None:
    """Measure a model's capability card: success per world and level, with and without tools, and mixed groups.

    A pocket model's card also has its skills: replies to conversations with words that its training never saw.
    """
    from ferrule.evaluate.card import measure, mixed_groups, page
    from ferrule.policies.models import SHIPPED
    from ferrule.worlds.aliased import renamed
    from ferrule.worlds.named import world

    policy = load_policy(model, **computing_options({"device": device}))
    # Their prompts fit the smallest models.
    worlds = {name: world(name) for name in ("arithmetic", "apis", "facts")}
    foreign = renamed(worlds["apis"], share=1.0)
    result = measure(policy, {**worlds, "apis renamed": foreign}, eval_tasks)
    result["mixed_groups"] = mixed_groups(policy, foreign, eval_tasks)
    if model in SHIPPED:
        from ferrule.policies.pocket.measure import measure as measure_skills

        result["skills"] = measure_skills(policy, eval_tasks)
    if output is not None:
        from ferrule.train.logs import write_json

        write_json(output, result)
    emit(result, as_json, lambda: click.echo(page(result)))
