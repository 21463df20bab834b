"""``ferrule demo``: the pocket model learns when to use its tools, in a few minutes on two cores."""

from __future__ import annotations

from pathlib import Path

import click

from ferrule.cli.options import emit, guarded

__all__ = ["command"]


@click.command("demo")
@click.option("--seed", default=0, show_default=True, help="Seed of tasks and sampling.")
@click.option("--max-steps", default=40, show_default=True, help="Training steps.")
@click.option("--eval-tasks", default=400, show_default=True, help="Held-out tasks, half of each world.")
@click.option("--max-minutes", default=5.0, show_default=True, help="Longest training time.")
@click.option("--name", default="demo", show_default=True, help="The run lies in runs/NAME.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@guarded
def command(seed: int, max_steps: int, eval_tasks: int, max_minutes: float, name: str, as_json: bool) -> None:
    """Train the pocket model with tools: evaluate, learn by GRPO, evaluate again, and write a report."""
    from ferrule.evaluate.demo import demo
    from ferrule.evaluate.run import execute, table

    plan = demo(Path("runs") / name, seed=seed, max_steps=max_steps, eval_tasks=eval_tasks, max_minutes=max_minutes)
    result = execute(plan, overwrite=True)

    def text() -> None:
        table(result["evaluations"])
        click.echo(f"\nCurves and episodes: {result['report']}")

    emit(result, as_json, text)
