"""``ferrule arena``: the same model, world, token budget and seeds for any set of recipes, in one table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from ferrule.cli.options import emit, guarded

__all__ = ["Arena", "command", "run"]

UNTRAINED = "untrained"
EVAL_SEED = 1234
"""Seed of the held-out tasks and of their sampling, for every recipe and training seed."""


@dataclass(frozen=True)
class Arena:
    """What is equal for all recipes of an arena."""

    recipes: tuple[str, ...]
    worlds: tuple[str, ...] = ("arithmetic", "apis")
    model: str = "pocket"
    budget: int = 400_000
    seeds: int = 3
    groups: int = 16
    samples: int = 8
    learning_rate: float = 3e-4
    max_completion_length: int = 80
    levels: tuple[int, ...] = (1, 2, 3, 4, 5)
    eval_tasks: int = 200
    eval_samples: int = 4


def _settings(arena: Arena, recipe: Any, seed: int) -> Any:
    """The settings of one run: every step plays the same number of tasks, whatever the recipe's group size."""
    from ferrule.train.settings import Settings

    return Settings(
        max_steps=1_000_000,
        max_sampled_tokens=arena.budget,
        learning_rate=arena.learning_rate,
        per_device_train_batch_size=arena.groups,
        gradient_accumulation_steps=recipe.samples,
        warmup_steps=3,
        adam_beta2=0.95,
        seed=seed,
        levels=arena.levels,
        save_steps=20,
        save_total_limit=1,
    )


def _base(arena: Arena) -> Any:
    from ferrule.train.grpo import grpo

    return grpo(num_generations=arena.samples, max_completion_length=arena.max_completion_length)


def _measured(arena: Arena, policy: Any, world: Any, name: str) -> Any:
    """Evaluate with the plain tool loop on the held-out tasks."""
    from ferrule.evaluate.evaluate import evaluate

    tasks = world.tasks("test", arena.eval_tasks, seed=EVAL_SEED, levels=arena.levels)
    return evaluate(
        _base(arena).agent, policy, world, tasks, samples=arena.eval_samples, seed=EVAL_SEED, temperature=1.0, name=name
    )


def _cell(arena: Arena, world: Any, name: str, seed: int, folder: Path, known: Mapping[str, Any]) -> Any:
    """Train one recipe with one seed, or go on where a killed run stopped, and measure it."""
    from ferrule.cli.options import load_policy
    from ferrule.evaluate.arena import cell_of, stack
    from ferrule.train import checkpoint
    from ferrule.train.loop import train

    policy = load_policy(arena.model)
    if name == UNTRAINED:
        return cell_of(name, seed, _measured(arena, policy, world, name))
    recipe, changes = stack(_base(arena), name, known)
    resume = checkpoint.latest(folder) is not None
    if not resume and folder.exists():
        shutil.rmtree(folder)  # killed before its first checkpoint
    summary = train(recipe, world, policy, _settings(arena, recipe, seed), folder, resume=resume)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    seconds = sum(row.get("seconds/sample", 0.0) + row.get("seconds/update", 0.0) for row in rows)
    return cell_of(
        name, seed, _measured(arena, policy, world, name), steps=summary["steps"], sampled=summary["sampled_tokens"],
        seconds=seconds, changes=changes,
    )  # fmt: skip


def _curve(folder: Path) -> list[tuple[int, float]]:
    """Success on the training tasks against generated tokens."""
    total, out = 0.0, []
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        total += row.get("tokens/sampled", 0.0)
        if "success" in row and row.get("phase") == "train":
            out.append((int(total), float(row["success"])))
    return out


def run(arena: Arena, folder: Path, *, overwrite: bool = False, show: Any = lambda text: None) -> dict[str, Any]:
    """Play every recipe with every seed and return the comparison; what is finished is not played again.

    Everything lies under ``folder``: one run per recipe and seed, and ``arena.json``. A folder that holds an arena with
    other settings is refused unless ``overwrite``.
    """
    from ferrule.cli.options import make_world
    from ferrule.evaluate.arena import Cell, recipes_of, stack, summarise
    from ferrule.evaluate.run import versions
    from ferrule.papers import discover
    from ferrule.train.logs import write_json

    known = recipes_of(discover())
    for name in arena.recipes:
        stack(_base(arena), name, known)
    shared = {key: value for key, value in json.loads(json.dumps(asdict(arena))).items() if key not in _MAY_GROW}
    settings = folder / "settings.json"
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    if settings.exists() and json.loads(settings.read_text(encoding="utf-8")) != shared:
        raise FileExistsError(f"{folder} holds an arena with other settings; choose another --name, or --overwrite it")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(settings, shared)
    world = make_world(arena.worlds)
    cells, curves = [], {}
    for seed in range(arena.seeds):
        # Without training a seed changes nothing.
        for name in (UNTRAINED, *arena.recipes) if seed == 0 else arena.recipes:
            place = folder / name / f"seed-{seed}"
            done = place / "cell.json"
            if not done.exists():
                write_json(done, asdict(_cell(arena, world, name, seed, place / "run", known)))
                cell = json.loads(done.read_text(encoding="utf-8"))
                show(f"{name}, seed {seed}: success {cell['success']:.1%}, {cell['sampled']:,} tokens")
            data = json.loads(done.read_text(encoding="utf-8"))
            cells.append(Cell(**{**data, "task_scores": tuple(data["task_scores"])}))
            if name != UNTRAINED:
                curves[f"{name}/{seed}"] = _curve(place / "run")
    result = {
        "about": {**asdict(arena), "seeds": list(range(arena.seeds)), "against": arena.recipes[0],
                  "command": _command(arena)},
        "rows": summarise(cells, against=arena.recipes[0]),
        "cells": [asdict(cell) for cell in cells],
        "curves": curves,
        "versions": versions(),
    }  # fmt: skip
    write_json(folder / "arena.json", result)
    return result


_MAY_GROW = ("recipes", "seeds")


def _command(arena: Arena) -> str:
    """The command line that plays an arena again: its options that are not the defaults, and always what matters."""
    always = (f"--recipes {','.join(arena.recipes)}", f"--world {','.join(arena.worlds)}", f"--budget {arena.budget}",
              f"--seeds {arena.seeds}")  # fmt: skip
    names = ("model", "eval_tasks", "eval_samples", "learning_rate")
    chosen = {name: getattr(arena, name) for name in names if getattr(arena, name) != getattr(Arena, name)}
    return " ".join(["ferrule arena", *always, *(f"--{k.replace('_', '-')} {v}" for k, v in chosen.items())])


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
@click.option("--recipes", required=True, callback=_split, help="Comma separated; stack with +, as in tapo+aspo+otc.")
@click.option("--world", "worlds", default="arithmetic,apis", show_default=True, callback=_split, help="Worlds.")
@click.option("--budget", default="400k", show_default=True, help="Generated tokens per run.")
@click.option("--seeds", default=3, show_default=True, help="Training seeds per recipe.")
@click.option("--model", default="pocket", show_default=True, help="Model every run starts from.")
@click.option("--eval-tasks", default=200, show_default=True, help="Held-out tasks.")
@click.option("--eval-samples", default=4, show_default=True, help="Samples per held-out task.")
@click.option("--learning-rate", default=3e-4, show_default=True, help="The same for all recipes.")
@click.option("--name", default="arena", show_default=True, help="The arena lies in runs/NAME.")
@click.option("--overwrite", is_flag=True, help="Throw away what runs/NAME holds.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@guarded
def command(
    recipes: tuple[str, ...], worlds: tuple[str, ...], budget: str, seeds: int, model: str, eval_tasks: int,
    eval_samples: int, learning_rate: float, name: str, overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Compare training recipes at the same number of generated tokens; a killed arena goes on where it stopped.

    The first recipe is the one that others are compared with. The result lies in runs/NAME: arena.json, arena.md and
    arena.png.
    """
    from ferrule.evaluate.arena import page, tokens

    if seeds < 1 or not recipes:
        raise click.UsageError("an arena needs at least one recipe and one seed")
    arena = Arena(
        recipes, worlds, model, tokens(budget), seeds, learning_rate=learning_rate, eval_tasks=eval_tasks,
        eval_samples=eval_samples,
    )  # fmt: skip
    folder = Path("runs") / name
    result = run(arena, folder, overwrite=overwrite, show=lambda text: click.echo(text, err=True))
    (folder / "arena.md").write_text(page(result), encoding="utf-8")
    try:
        from ferrule.view.arena import arena_figure

        arena_figure(result, folder / "assets" / "arena.png")
    except ImportError as error:
        click.echo(f"no figure: {error}", err=True)
    emit({**result, "folder": str(folder)}, as_json, lambda: _table(result["rows"]))
