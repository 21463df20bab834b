"""``ferrule demo``: the pocket model learns when to use its tools, in a few minutes on two cores."""

from __future__ import annotations

from pathlib import Path

import click

from ferrule.cli.options import emit, guarded

__all__ = ["command", "plan_of"]


def plan_of(folder: Path, seed: int, steps: int, tasks: int, minutes: float):  # type: ignore[no-untyped-def]
    """Return the plan of the demo: GRPO on arithmetic and generated tools, held-out tasks of every level."""
    from ferrule.cli.options import load_policy
    from ferrule.evaluate.run import Plan
    from ferrule.train.grpo import grpo
    from ferrule.train.settings import Settings
    from ferrule.worlds.apis import Apis
    from ferrule.worlds.arithmetic import Arithmetic
    from ferrule.worlds.mixed import Mixed

    world = Mixed((Arithmetic(), Apis()))
    settings = Settings(
        max_steps=steps,
        learning_rate=3e-4,
        per_device_train_batch_size=32,
        gradient_accumulation_steps=4,
        warmup_steps=3,
        seed=seed,
        max_minutes=minutes,
        adam_beta2=0.95,
    )
    return Plan(
        folder=folder,
        policy=load_policy("pocket"),
        world=world,
        recipe=grpo(num_generations=8, max_completion_length=80),
        settings=settings,
        eval_tasks=tuple(world.tasks("test", tasks, seed=1234)),
        about={"command": "ferrule demo", "model": "pocket", "world": world.name},
    )


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
    from ferrule.evaluate.run import execute, table

    result = execute(plan_of(Path("runs") / name, seed, max_steps, eval_tasks, max_minutes), overwrite=True)

    def text() -> None:
        table(result["evaluations"])
        click.echo(f"\nCurves and episodes: {result['report']}")

    emit(result, as_json, text)
