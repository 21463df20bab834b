"""Going back to the weights of an earlier checkpoint when health warns, and on from there with other tasks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ferrule.core.recipe import Method, Part
from ferrule.train import checkpoint
from ferrule.train.check import parts_of
from ferrule.train.monitor import Health
from ferrule.train.policy import Trains
from ferrule.train.run import Run
from ferrule.train.settings import Settings, varied

__all__ = ["check_rollbacks", "go_back", "way_back"]


def check_rollbacks(health: Health, method: Method | Part, settings: Settings, folder: Path | None) -> None:
    """Refuse rollbacks that would find no checkpoint from before the window of a warning (``ValueError``)."""
    for part in parts_of(method) if health.rollbacks else ():
        every = varied(settings, part.settings).save_steps
        if folder is None or not every:
            raise ValueError("Health.rollbacks would do nothing without checkpoints; set save_steps and a folder")
        reach = (settings.save_total_limit - 1) * every
        if reach < health.window:
            raise ValueError(
                f"Health.rollbacks needs checkpoints from before its window of {health.window} steps: save_steps * "
                f"(save_total_limit - 1) is {reach}; raise one of them to reach {health.window}"
            )


def way_back(run: Run) -> Path | None:
    """Return the checkpoint to go back to; None when there is none, or the rollbacks are used up.

    It is the newest of this part from before the window of the warning, else the oldest.
    """
    course, health, place = run.course, run.health, None
    if run.folder is not None and run.main and course.rollbacks < health.rollbacks:
        courses = [(checkpoint.state_of(path)["course"], path) for path in checkpoint.every(run.folder)]
        steps = {int(c["part_steps"]): path for c, path in courses if int(c["part"]) == course.part}
        before = [step for step in steps if step <= course.part_steps - health.window]
        place = steps[max(before) if before else min(steps)] if steps else None
    if run.pool is None:
        return place
    from accelerate.utils import broadcast_object_list

    chosen: Path | None = broadcast_object_list([place])[0]
    return chosen


def go_back(run: Run, place: Path, policy: Trains, optimiser: Any) -> None:
    """Take over weights, optimiser and what health knew from a checkpoint, and remove the later ones.

    Steps, tokens and logs go on counting, so that other tasks are drawn with other seeds.
    """
    assert run.folder is not None
    state = checkpoint.read(place, policy, optimiser)
    run.watch(state)
    run.course.rollbacks += 1
    run.warn(
        f"back to the weights of step {state['step']} (rollback {run.course.rollbacks} of {run.health.rollbacks}); "
        "the run goes on with new tasks."
    )
    if run.pool is not None:
        run.pool.wait_for_everyone()  # all have read the checkpoint
    if run.main:
        for path in checkpoint.every(run.folder):
            if checkpoint.state_of(path)["step"] > state["step"]:
                shutil.rmtree(path)
