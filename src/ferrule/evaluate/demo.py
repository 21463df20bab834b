"""The demo: the pocket model learns when to use its tools."""

from __future__ import annotations

from pathlib import Path

from ferrule.evaluate.run import Plan
from ferrule.policies.named import load
from ferrule.train.grpo import grpo
from ferrule.train.settings import Settings
from ferrule.worlds.named import worlds

__all__ = ["demo"]


def demo(
    folder: Path,
    *,
    seed: int = 0,
    max_steps: int = 150,
    eval_tasks: int = 400,
    max_minutes: float = 5.0,
    device: str = "auto",
) -> Plan:
    """Return the plan of the demo: GRPO on arithmetic and generated tools, held-out tasks of every level."""
    world = worlds(("arithmetic", "apis"))
    settings = Settings(
        max_steps=max_steps,
        learning_rate=1.5e-4,
        lr_scheduler_type="linear",
        per_device_train_batch_size=32,
        gradient_accumulation_steps=4,
        warmup_steps=3,
        seed=seed,
        max_minutes=max_minutes,
        adam_beta2=0.95,
    )
    return Plan(
        folder=folder,
        policy=load("pocket", device=device),
        world=world,
        method=grpo(num_generations=8, max_completion_length=80, format_weight=0.2),
        settings=settings,
        eval_tasks=tuple(world.tasks("test", eval_tasks, seed=1234)),
        about={"command": "ferrule demo", "model": "pocket", "world": world.name},
    )
