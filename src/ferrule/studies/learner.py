"""A local model trained by a recipe on a world, and how well it does on held-out tasks along the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ferrule.core.flows import World
from ferrule.core.recipe import Recipe
from ferrule.core.records import Task
from ferrule.evaluate.evaluate import Evaluation, evaluate
from ferrule.train.loop import train
from ferrule.train.policy import Trains
from ferrule.train.settings import Settings

__all__ = ["learning_curve"]


def learning_curve(
    recipe: Recipe, world: World, policy: Trains, settings: Settings, tasks: Sequence[Task]
) -> dict[int, Evaluation]:
    """Train ``policy`` in place and return its evaluations on ``tasks`` by step: before, and every ``eval_steps``.

    The agent is the recipe's and the seed that of ``settings``. Nothing is kept on disk.
    """

    def measured() -> Evaluation:
        return evaluate(recipe.agent, policy, world, tasks, seed=settings.seed)

    curve = {0: measured()}

    def watch(model: Any, step: int) -> Mapping[str, float]:
        curve[step] = measured()
        return {"success": curve[step].success}

    with TemporaryDirectory() as folder:
        train(recipe, world, policy, settings, Path(folder), evaluate=watch)
    return curve
