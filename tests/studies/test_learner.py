"""A model trained on a world: its held-out curve and what is measured when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toys import tiny_policy

from ferrule.agents.react import ToolLoop
from ferrule.core.records import Message, Score, Task, Trajectory
from ferrule.data.formats import Row
from ferrule.studies import learner as module
from ferrule.studies.learner import Conversation, learner, learning_curve, taught
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
    settings = Settings(
        max_steps=4, per_device_train_batch_size=4, gradient_accumulation_steps=1, eval_steps=2, learning_rate=1e-2
    )
    recipe = plain(agent=ToolLoop(turns=1, max_tokens=4), num_generations=4, reward=uneven)
    curve = learning_curve(recipe, world, tiny, settings, tasks)
    assert list(curve) == [0, 2, 4]
    assert {row.task for row in curve[4].rows} == {task.id for task in tasks}
    assert any(not before[name].equal(value) for name, value in tiny.model.state_dict().items())


def weights(policy: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in policy.parameters()])


SAID: list[Conversation] = [((Message("user", "2 + 2"), Message("assistant", "4")), ())]


def test_a_learner_is_trained_once_for_what_it_was_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other conversations, another seed and other settings are other learners; the same again is read from disk."""
    monkeypatch.setattr(module, "load", lambda base, **_: tiny_policy())
    trained: list[int] = []

    def fit(policy: Any, stage: Any, settings: Settings) -> None:
        trained.append(settings.seed)
        original(policy, stage, settings)

    original = module.fit
    monkeypatch.setattr(module, "fit", fit)
    short: dict[str, Any] = {"folder": tmp_path, "max_steps": 2}
    first = weights(learner(SAID, seed=3, **short))
    assert not torch.equal(first, weights(tiny_policy()))
    assert torch.equal(first, weights(learner(SAID, seed=3, **short)))
    assert trained == [3]
    other: list[Conversation] = [((Message("user", "2 + 3"), Message("assistant", "5")), ())]
    assert not torch.equal(first, weights(learner(other, seed=3, **short)))
    assert not torch.equal(first, weights(learner(SAID, seed=3, **{**short, "learning_rate": 1e-2})))
    learner(SAID, seed=4, **short)  # of one conversation there is one order, so the weights are the same
    assert trained == [3, 3, 3, 4]


def test_a_learner_may_be_shown_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load", lambda base, **_: tiny_policy())

    def rows(policy: Any, lap: int) -> list[Row]:
        return [Row((*policy.encode("2 + 2"), 40, 41), (*[-1] * len(policy.encode("2 + 2")), 0, 0))]

    given, shown = learner(rows, folder=tmp_path, max_steps=2), learner(SAID, folder=tmp_path, max_steps=2)
    assert not torch.equal(weights(given), weights(shown))
    with pytest.raises(ValueError, match="the data is empty"):
        learner([], folder=tmp_path)


def test_an_arm_is_held_out_tasks_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 4 episodes with at most 4 tokens: 20 tokens are reached in the second step at the earliest."""
    world, agent = Arithmetic(tools=()), ToolLoop(turns=1, max_tokens=4)
    made = plain(agent=agent, num_generations=4, reward=uneven)
    how: dict[str, Any] = {"agent": agent, "world": world, "levels": (1,), "start": lambda seed: tiny_policy(seed)}
    size: dict[str, Any] = {"sampled": 20, "tasks": 3, "batch": 4}
    row = taught(seed=1, method=made, learning_rate=1e-2, **how, **size)
    assert row["sampled"] >= 20
    assert row["steps"] >= 2
    assert (row["calls"], row["failed"]) == (0.0, 0.0)
    assert 0.0 < row["tokens"] <= 4.0
    assert row["moved"] > 0.0
    assert row == taught(seed=1, method=made, learning_rate=1e-2, **how, **size)
    still = taught(seed=1, method=made, learning_rate=0.0, **how, **size)
    assert (still["moved"], still["success"]) == (0.0, still["start"])
