"""``ferrule arena``: the same model, world, token budget and seeds for any set of recipes, in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ferrule.cli.model_options import device_flag
from ferrule.cli.options import emit, guarded, interruptible, run_folder, runs, workers

__all__ = ["command"]


def _split(ctx: Any, param: Any, value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _table(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    grid = Table(title="held-out tasks, mean over seeds [95 % interval over seeds]")
    for column in ("recipe", "success", "calls", "tokens", "malformed", "pass@k", "steps", "seconds"):
        grid.add_column(column, justify="left" if column == "recipe" else "right")
    for row in rows:
        interval = row["success_interval"]
        spread = f" [{interval[0]:.1%}, {interval[1]:.1%}]" if interval else ""
        passes = " ".join(f"{k}:{value:.1%}" for k, value in row["pass_at"].items())
        grid.add_row(
            row["recipe"], f"{row['success']:.1%}{spread}", f"{row['calls']:.2f}", f"{row['tokens']:.0f}",
            f"{row['malformed']:.1%}", passes, f"{row['steps']:.0f}", f"{row['seconds']:.0f}",
        )  # fmt: skip
    Console(width=max(120, Console().width)).print(grid)


@click.command("arena")
@click.option(
    "--recipes",
    required=True,
    callback=_split,
    help="Comma separated; recipes stack with +, as in tapo+aspo+otc or sft+otc. Also sft, dpo, ipo, simpo, rpo, kto.",
)
@click.option("--world", "worlds", default="arithmetic,apis", show_default=True, callback=_split, help="Worlds.")
@click.option("--budget", default="400k", show_default=True, help="Generated tokens per run (sft: learned from).")
@click.option("--seeds", default=3, show_default=True, help="Training seeds per recipe.")
@click.option("--model", default="pocket", show_default=True, help="Model every run starts from.")
@device_flag
@click.option("--eval-tasks", default=200, show_default=True, help="Held-out tasks.")
@click.option("--num-generations-eval", default=4, show_default=True, help="Samples per held-out task.")
@click.option("--learning-rate", default=3e-4, show_default=True, help="The same for all recipes.")
@runs("arena")
@workers
@click.option("--overwrite", is_flag=True, help="Throw away what runs/NAME holds.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@guarded
def command(
    recipes: tuple[str, ...], worlds: tuple[str, ...], budget: str, seeds: int, model: str, device: str | None,
    eval_tasks: int, num_generations_eval: int, learning_rate: float, name: str | None, output_dir: Path | None,
    jobs: int, ray: str | None, overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Compare training recipes at the same number of generated tokens; a killed arena goes on where it stopped.

    The first recipe is the one that others are compared with. The result lies in runs/NAME: arena.json, arena.md and
    arena.png.
    """
    from ferrule.evaluate.arena import Arena, play_arena, tokens
    from ferrule.evaluate.standings import page
    from ferrule.papers import known

    if seeds < 1 or not recipes:
        raise click.UsageError("an arena needs at least one recipe and one seed")
    arena = Arena(
        recipes, worlds, model, tokens(budget), seeds, learning_rate=learning_rate, eval_tasks=eval_tasks,
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
