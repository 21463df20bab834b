"""``ferrule demo``: the pocket model learns when to use its tools, in a few minutes on two cores."""

from __future__ import annotations

from pathlib import Path

import click

from ferrule.cli.model_options import device_flag
from ferrule.cli.options import emit, guarded, interruptible, run_folder, runs

__all__ = ["command"]


@click.command("demo")
@click.option("--seed", default=0, show_default=True, help="Seed of tasks and sampling.")
@click.option("--max-steps", default=150, show_default=True, help="Training steps.")
@click.option("--eval-tasks", default=400, show_default=True, help="Held-out tasks, half of each world.")
@click.option("--max-minutes", default=5.0, show_default=True, help="Longest training time.")
@device_flag
@runs("demo")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the run.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@guarded
def command(
    seed: int, max_steps: int, eval_tasks: int, max_minutes: float, device: str | None, name: str | None,
    output_dir: Path | None, resume: bool, as_json: bool,
) -> None:  # fmt: skip
    """Train the pocket model with tools: evaluate, learn by GRPO, evaluate again, and write a report."""
    from ferrule.evaluate.demo import demo
    from ferrule.evaluate.run import execute, table

    folder = run_folder(name, output_dir, "demo")

    def text() -> None:
        table(result["evaluations"])
        click.echo(f"\nCurves and episodes: {result['report']}")

    with interruptible(folder) as check_interrupted:
        plan = demo(
            folder,
            seed=seed,
            max_steps=max_steps,
            eval_tasks=eval_tasks,
            max_minutes=max_minutes,
            device=device or "auto",
        )
        result = execute(plan, resume=resume, overwrite=not resume)
        emit(result, as_json, text)
        check_interrupted(result["summary"])
