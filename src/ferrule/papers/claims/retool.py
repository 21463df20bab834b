"""ReTool: the pocket model, trained alike with a Python tool and without one."""

from __future__ import annotations

import math
from functools import partial

from ferrule.agents.react import ToolLoop
from ferrule.papers.retool import small_recipe
from ferrule.studies.conditions import Rows, at_least, less
from ferrule.studies.learner import learning_curve
from ferrule.studies.study import Study
from ferrule.studies.table import plain, steps_to
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.wrap import Offering

__all__ = ["STUDY", "arm"]

LEVELS = (3, 4)
"""Levels of the arithmetic questions: two to three digits, beyond what the pocket model does in its head."""
_AFTER = "success after "


def arm(*, seed: int, steps: int, every: int, tasks: int, tools: tuple[str, ...]) -> dict[str, float]:
    """Train the pocket model with the given tools and return its held-out curve and final habits."""
    from ferrule.policies.local import load
    from ferrule.policies.pocket import WEIGHTS
    from ferrule.train.settings import Settings

    world = Offering(Arithmetic(), tools)
    held_out = world.tasks("test", tasks, seed=10_000 + seed, levels=LEVELS)
    recipe = small_recipe(plain(agent=ToolLoop(turns=3, max_tokens=64)))
    settings = Settings(
        max_steps=steps, learning_rate=3e-4, per_device_train_batch_size=64, gradient_accumulation_steps=1,
        eval_steps=every, seed=seed, levels=LEVELS,
    )  # fmt: skip
    curve = learning_curve(recipe, world, load(WEIGHTS, device="cpu"), settings, held_out)
    last = curve[max(curve)]
    return {
        "start": curve[0].success,
        "success": last.success,
        "calls": sum(row.calls > 0 for row in last.rows) / len(last.rows),
        "tokens": sum(row.tokens or 0 for row in last.rows) / len(last.rows),
        **{f"{_AFTER}{step}": evaluation.success for step, evaluation in curve.items() if step},
    }


def _head_start(rows: Rows) -> float:
    """Half less the share of all steps after which Python reaches the text-only end (twice all steps if never)."""
    curve = [v for name, v in rows["python"].items() if name == "start" or name.startswith(_AFTER)]
    reached = (steps_to(curve, rows["text"]["success"], math.inf) - 1) / (len(curve) - 1)
    return 0.5 - min(reached, 2.0)


STUDY = Study(
    paper="retool",
    statement="Training with a code tool passes text-only training of the same model within the same steps.",
    falsifier="Text-only training catches up within the same steps.",
    trained="the pocket model by group advantages on arithmetic, judged on held-out questions",
    grade="B",
    arms={"text": partial(arm, tools=()), "python": partial(arm, tools=("python",))},
    asks=(
        at_least("success with Python minus text-only", less("success", "python", "text"), 0.2),
        at_least("half less the share of steps to the text-only end", _head_start, 0.0),
    ),
    sizes={"small": {"steps": 16, "every": 4, "tasks": 60}, "tiny": {"steps": 2, "every": 1, "tasks": 6}},
    seeds=(0, 1, 2),
    setup={"levels": LEVELS},
    models=("pocket",),
)
