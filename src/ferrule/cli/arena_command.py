"""``ferrule arena``: the same model, world, token budget and seeds for any set of recipes or agents, in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ferrule.cli.arena_columns import (
    OF_COLUMNS,
    column_options,
    columns_table,
    play_columns,
    refuse_given,
    split,
)  # fmt: skip
from ferrule.cli.model_options import device_flag
from ferrule.cli.options import emit, guarded, interruptible, run_folder, runs, workers

__all__ = ["command"]


def _table(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from ferrule.evaluate.standings import as_share

    grid = Table(title="held-out tasks, mean over seeds [95 % interval over seeds]")
    for column in ("recipe", "success", "calls", "tokens", "malformed", "pass@k", "steps", "seconds"):
        grid.add_column(column, justify="left" if column == "recipe" else "right")
    for row in rows:
        passes = " ".join(f"{k}:{value:.1%}" for k, value in row["pass_at"].items())
        grid.add_row(
            row["recipe"], as_share(row["success"], row["success_interval"]), f"{row['calls']:.2f}",
            f"{row['tokens']:.0f}", f"{row['malformed']:.1%}", passes, f"{row['steps']:.0f}", f"{row['seconds']:.0f}",
        )  # fmt: skip
    Console(width=max(120, Console().width)).print(grid)


def _agents_table(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from ferrule.evaluate.standings import as_share

    grid = Table(title="held-out tasks, mean over seeds [95 % interval over seeds]; the rest per task")
    for column in ("world", "agent", "success", "tokens", "calls", "malformed", "seconds"):
        grid.add_column(column, justify="left" if column in ("world", "agent") else "right")
    for row in rows:
        grid.add_row(
            row["world"], row["agent"], as_share(row["success"], row["success_interval"]), f"{row['tokens']:.0f}",
            f"{row['calls']:.2f}", f"{row['malformed']:.1%}", f"{row['seconds']:.2f}",
        )  # fmt: skip
    Console(width=max(100, Console().width)).print(grid)


def _play_agents(chosen: tuple[Any, ...], folder: Path, jobs: int, ray: str | None, overwrite: bool) -> dict[str, Any]:
    """Compare agents and write the page."""
    from ferrule.evaluate.agent_arena import AgentArena, agents_of, play_agents
    from ferrule.evaluate.agent_page import agents_page
    from ferrule.evaluate.arena import tokens
    from ferrule.papers import ways

    agents, worlds, budget, given = chosen
    arena = AgentArena(agents_of(agents), agents_of(",".join(worlds)), budget=tokens(budget), **given)
    with interruptible(folder):
        result = play_agents(
            arena, folder, known=ways(), overwrite=overwrite, workers=jobs, ray=ray,
            show=lambda text: click.echo(text, err=True),
        )  # fmt: skip
    (folder / "arena.md").write_text(agents_page(result), encoding="utf-8")
    return result


def _check(given: Mapping[str, Any]) -> None:
    """Refuse options that do not go together, and those that would do nothing."""
    recipes, agents, columns, memory = (given[name] for name in ("recipes", "agents", "columns", "memory"))
    if given["seeds"] < 1 or bool(recipes) == bool(agents):
        raise click.UsageError("an arena needs at least one seed, and either --recipes or --agents")
    if columns and agents:
        raise click.UsageError("--columns is about recipes; with --agents it would do nothing")
    if not columns:
        refuse_given("is about --columns; without them it would do nothing", *OF_COLUMNS)
    if memory and not agents:
        raise click.UsageError("--memory is about agents; with --recipes it would do nothing")
    source = click.get_current_context().get_parameter_source("learn_tasks")
    learns = memory or "+" in agents or given["eval_split"] == "train"
    if source is click.core.ParameterSource.COMMANDLINE and not learns:
        raise click.UsageError("--learn-tasks is what a --memory is learned from; without it nothing would be done")
    if not agents and (given["writer"] or given["eval_split"] != "test" or (given["first_seed"] and not columns)):
        raise click.UsageError(
            "--writer, --eval-split and --first-seed are about agents; with --recipes they do nothing"
        )


@click.command("arena")
@click.option(
    "--recipes",
    default="",
    callback=split,
    help="Comma separated; recipes stack with +, as in tapo+aspo+otc or sft+otc. Also sft, dpo, ipo, simpo, rpo, kto.",
)
@click.option(
    "--agents",
    default="",
    help="Compare these instead, untrained: loop,best-of-n,beam:width=2,depth=4. AGENT+PAPER is taught first: "
    "loop+draft.",
)
@click.option(
    "--memory",
    default="",
    callback=split,
    help="With --agents: play each with a library that it learns before, under these controls: off,on,frozen,shuffled. "
    "Of AGENT+PAPER: the controls of what it learned.",
)
@click.option(
    "--learn-tasks",
    default=40,
    show_default=True,
    type=click.IntRange(0),
    help="With --memory or AGENT+PAPER: training tasks.",
)
@click.option(
    "--writer",
    default="",
    metavar="MODEL",
    help="With AGENT+PAPER: who explores, writes and retrieves, a model or 'script' [default: the model].",
)
@click.option(
    "--eval-split",
    default="test",
    show_default=True,
    type=click.Choice(["test", "train"]),
    help="With --agents: tasks that are measured; train: other ones than learned from, with tools that were met.",
)
@click.option(
    "--first-seed",
    default=0,
    type=click.IntRange(0),
    help="With --agents, --columns: the first seed [default: 0; with --columns 100, rates are chosen with 0].",
)
@click.option("--world", "worlds", default="arithmetic,apis", show_default=True, callback=split, help="Worlds.")
@click.option(
    "--budget", default=None, help="Tokens per run (400k; sft: learned from), or of an agent's search per task (4000)."
)
@click.option("--seeds", default=3, show_default=True, help="Training seeds per recipe, or draws of tasks.")
@click.option("--model", default="pocket", show_default=True, help="Model every run starts from.")
@device_flag
@click.option("--eval-tasks", default=200, show_default=True, help="Held-out tasks.")
@click.option("--num-generations-eval", default=4, show_default=True, help="Samples per held-out task.")
@click.option("--learning-rate", default=3e-4, show_default=True, help="The same for all recipes.")
@column_options
@runs("arena")
@workers
@click.option("--overwrite", is_flag=True, help="Throw away what runs/NAME holds.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@guarded
def command(
    recipes: tuple[str, ...], agents: str, memory: tuple[str, ...], learn_tasks: int,
    writer: str, eval_split: str, first_seed: int, worlds: tuple[str, ...], budget: str | None, seeds: int, model: str,
    device: str | None, eval_tasks: int, num_generations_eval: int, learning_rate: float, columns: tuple[str, ...],
    rates: tuple[float, ...], leading: int, leading_seeds: int, units: Path | None, name: str | None,
    output_dir: Path | None, jobs: int, ray: str | None, overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Compare training recipes at the same number of generated tokens; a killed arena goes on where it stopped.

    With --agents, ways of acting and searching are compared at the same number of tokens per task instead. The first is
    the one that others are compared with. The result lies in runs/NAME: arena.json, arena.md and, of recipes, a figure.
    """
    _check(click.get_current_context().params)
    if agents:
        refuse_given("is about recipes; with --agents it would do nothing", "num_generations_eval", "learning_rate")
        folder = run_folder(name, output_dir, "agents")
        how = {"model": model, "seeds": seeds, "eval_tasks": eval_tasks, "device": device or "auto", "memory": memory,
               "learn_tasks": learn_tasks, "split": eval_split, "writer": writer, "first_seed": first_seed}  # fmt: skip
        chosen = (agents, worlds, budget or "4000", how)
        result = _play_agents(chosen, folder, jobs, ray, overwrite)
        emit({**result, "folder": str(folder)}, as_json, lambda: _agents_table(result["rows"]))
        return
    if columns:
        folder = run_folder(name, output_dir, "arena-profile")
        profiled = play_columns(folder, jobs, ray, overwrite)
        emit({**profiled, "folder": str(folder)}, as_json, lambda: columns_table(profiled))
        return
    from ferrule.evaluate.arena import Arena, play_arena, tokens
    from ferrule.evaluate.standings import page
    from ferrule.papers import known

    arena = Arena(
        recipes, worlds, model, tokens(budget or "400k"), seeds, learning_rate=learning_rate, eval_tasks=eval_tasks,
        num_generations_eval=num_generations_eval, device=device or "auto",
    )  # fmt: skip
    folder = run_folder(name, output_dir, "arena")
    with interruptible(folder):
        result = play_arena(
            arena, known, folder, overwrite=overwrite, workers=jobs, ray=ray,
            show=lambda text: click.echo(text, err=True),
        )  # fmt: skip
    (folder / "arena.md").write_text(page(result), encoding="utf-8")
    try:
        from ferrule.view.arena import arena_figure

        arena_figure(result, folder / "assets" / "arena.png")
    except ImportError as error:
        click.echo(f"no figure: {error}", err=True)
    emit({**result, "folder": str(folder)}, as_json, lambda: _table(result["rows"]))
