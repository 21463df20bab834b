"""The experiment behind ReTool's claim: the pocket model with and without a Python tool, trained alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ferrule.core.recipe import Recipe
from ferrule.core.records import Session, Task, World
from ferrule.credit.group import group_relative
from ferrule.studies.old import at_least, judged, scale_of
from ferrule.studies.paper import Claim

__all__ = ["ARMS", "LEVELS", "SCALES", "Offering", "measure", "steps_to", "train_arm"]


@dataclass(frozen=True)
class Offering:
    """A world whose tasks offer the given tools only; ``()`` is the same tasks without tools."""

    world: World
    tools: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the world inside."""
        return self.world.name

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Tasks of the world inside with the tools replaced."""
        return [replace(task, tools=self.tools) for task in self.world.tasks(split, count, seed=seed, levels=levels)]

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session of the world inside."""
        return self.world.start(task, seed)


ARMS: dict[str, tuple[str, ...]] = {"text": (), "python": ("python",)}
"""Arms of the claim: the tools that the same model may use in the same training."""
LEVELS = (3, 4)
"""Levels of the arithmetic questions: two to three digits, beyond what the pocket model does in its head."""
SCALES = {"small": {"steps": 16, "every": 4, "tasks": 60}, "tiny": {"steps": 2, "every": 1, "tasks": 6}}
"""Training steps, steps between evaluations, and held-out tasks, by scale."""


def train_arm(tools: tuple[str, ...], *, seed: int, steps: int, every: int, tasks: int) -> dict[str, Any]:
    """Train the pocket model with or without the Python tool and return its held-out curve and final habits."""
    from ferrule.agents.react import ToolLoop
    from ferrule.evaluate.evaluate import evaluate
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate
    from ferrule.papers.retool import small_recipe
    from ferrule.policies.local import load
    from ferrule.policies.pocket import WEIGHTS
    from ferrule.rewards.outcome import outcome
    from ferrule.train.loop import train
    from ferrule.train.settings import Settings
    from ferrule.worlds.arithmetic import Arithmetic

    world, agent = Offering(Arithmetic(), tools), ToolLoop(turns=3, max_tokens=64)
    policy = load(WEIGHTS)
    held_out = world.tasks("test", tasks, seed=10_000 + seed, levels=LEVELS)

    def measured(model: Any, step: int) -> dict[str, float]:
        found = evaluate(agent, model, world, held_out, seed=seed)
        return {
            "success": found.success,
            "calls": sum(row.calls > 0 for row in found.rows) / len(found.rows),
            "tokens": sum(row.tokens or 0 for row in found.rows) / len(found.rows),
        }

    curve = [measured(policy, 0)]

    def keep(model: Any, step: int) -> dict[str, float]:
        curve.append(measured(model, step))
        return curve[-1]

    base = Recipe(agent, outcome, group_relative, surrogate, token_mean, samples=8)
    settings = Settings(
        max_steps=steps, learning_rate=3e-4, per_device_train_batch_size=64, eval_steps=every, seed=seed, levels=LEVELS
    )
    with TemporaryDirectory() as folder:
        train(small_recipe(base), world, policy, settings, Path(folder), evaluate=keep)
    return {**curve[-1], "start": curve[0]["success"], "curve": [point["success"] for point in curve]}


def steps_to(curve: Sequence[float], level: float, every: int) -> float:
    """First training step at which a curve, measured every ``every`` steps, reaches ``level``; infinite if never."""
    return next((float(i * every) for i, value in enumerate(curve) if value >= level), float("inf"))


def measure(scale: str, seeds: Sequence[int]) -> Claim:
    """Measure whether training with a Python tool passes text-only training of the same model in the same steps.

    Held when both hold by their 95 % intervals: success with the tool ends at least 20 points above text-only, and it
    reaches the text-only end in at most half of the steps. ``scale`` is ``"small"`` or ``"tiny"`` (to try the
    machinery).
    """
    size = scale_of(SCALES, scale)
    measured = {arm: [train_arm(tools, seed=seed, **size) for seed in seeds] for arm, tools in ARMS.items()}
    pairs = list(zip(measured["text"], measured["python"], strict=True))
    reached = [
        min(steps_to(tool["curve"], text["success"], size["every"]), 2.0 * size["steps"]) for text, tool in pairs
    ]
    conditions = [
        at_least(
            "success with Python minus text-only", [tool["success"] - text["success"] for text, tool in pairs], 0.2
        ),
        at_least("half less the share of steps to the text-only end", [0.5 - r / size["steps"] for r in reached], 0.0),
    ]
    names = ("start", "success", "calls", "tokens")
    return judged(
        conditions,
        paper="retool",
        statement="Training with a code tool passes text-only training of the same model within the same steps.",
        arms={arm: {name: [row[name] for row in rows] for name in names} for arm, rows in measured.items()},
        falsifier="Text-only training catches up within the same steps.",
        seeds=tuple(seeds),
        scale=scale,
        setup={
            **size,
            "levels": list(LEVELS),
            "curves": {arm: [row["curve"] for row in rows] for arm, rows in measured.items()},
        },
    )
