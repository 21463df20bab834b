"""A model trained on a world: its held-out curve and what is measured when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ferrule.agents.react import ToolLoop
from ferrule.core.records import Score, Task, Trajectory
from ferrule.studies.learner import learning_curve
from ferrule.studies.table import plain
from ferrule.train.settings import Settings
from ferrule.worlds.arithmetic import Arithmetic


def uneven(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Pay the first of a group, so that every step has something to learn."""
    return [Score(float(not i)) for i in range(len(trajectories))]


def test_the_curve_has_the_start_and_every_evaluation(tiny: Any) -> None:
    """Four steps with an evaluation after every second; the policy is trained in place."""
    world = Arithmetic(tools=())
    tasks = world.tasks("test", 2, seed=1)
    before = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    settings = Settings(max_steps=4, per_device_train_batch_size=4, eval_steps=2, learning_rate=1e-2)
    recipe = plain(agent=ToolLoop(turns=1, max_tokens=4), num_generations=4, reward=uneven)
    curve = learning_curve(recipe, world, tiny, settings, tasks)
    assert list(curve) == [0, 2, 4]
    assert {row.task for row in curve[4].rows} == {task.id for task in tasks}
    assert any(not before[name].equal(value) for name, value in tiny.model.state_dict().items())
