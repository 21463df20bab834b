"""Turns of a role other than the recipe's are metered and read by the reward, but never scored or trained on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.toys import layout
from tests.train.pieces import LETTERS, draw, recipe
from tests.train.test_roles import rows, settings

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.recipe import vary
from ferrule.core.records import Message, Task
from ferrule.policies.scripted import Scripted
from ferrule.rewards.judge import judged
from ferrule.rollout.drive import drive
from ferrule.train.loop import train
from ferrule.train.sample import sample, stats

pytestmark = pytest.mark.usefixtures("one_thread")


def agent(task: Task, session: Any) -> Any:
    """The solver writes 3 tokens, a judge has the last word."""
    (reply,) = yield Ask((Message("user", task.prompt),), max_tokens=3)
    yield Ask((Message("user", f"mark: {reply.message.content}"),), role="judge", max_tokens=9)
    return str(reply.message.content)


def mark(text: str) -> float | None:
    return {"good": 1.0, "bad": 0.0}.get(text)


def with_judge(judge: Any) -> Any:
    def play(agent: Any, tasks: Any, world: Any, policy: Any, **options: Any) -> Any:
        return drive(agent, tasks, world, {"solver": policy, "judge": judge}, **options)

    return play


def marker() -> Scripted:
    """Says good or bad by the length of what it reads, so that groups have spread."""
    return Scripted(
        lambda ask, sample: "good" if sum(map(ord, str(ask.messages[0].content))) % 2 else "bad", renderer=layout()
    )


JUDGED = recipe(agent=agent, reward=judged(mark))


def test_only_the_solver_is_scored_and_trained(tiny: Any) -> None:
    batch = sample(JUDGED, draw, 2, LETTERS, tiny, seed=3, play=with_judge(marker()))
    signals = batch.signals
    assert len(signals.reward_N) == 8  # 2 groups of 4 episodes: no row of a judge
    assert {t.role for g in batch.groups for t in g.trajectories} == {"solver"}
    trained = [signals.ids_NT[n][signals.turn_NT[n] >= 0].tolist() for n in range(8)]
    written = [list(t.turns[0].sampled) for g in batch.groups for t in g.trajectories]
    assert trained == written
    verdicts = [e.trajectories[1].turns[0].reply.content for g in batch.groups for e in g.episodes]
    assert signals.reward_N.tolist() == [mark(str(text)) for text in verdicts]
    assert np.ptp(signals.reward_N) == 1.0


def test_the_judges_tokens_count_apart_and_against_the_budget(tiny: Any) -> None:
    batch = sample(JUDGED, draw, 2, LETTERS, tiny, seed=3, play=with_judge(marker()))
    said = [str(e.trajectories[1].turns[0].reply.content) for g in batch.groups for e in g.episodes]
    told = stats(batch)
    assert told["tokens/judge"] == sum(len(text) + 1 for text in said)  # bytes and the end token
    assert told["tokens/solver"] == told["tokens"]
    assert told["tokens/sampled"] == told["tokens/judge"] + told["tokens/solver"] == batch.sampled
    assert (told["asks/judge"], told["asks/solver"]) == (8.0, 8.0)
    assert told["seconds/judge"] > 0


def test_a_run_logs_what_each_role_took(tiny: Any, tmp_path: Path) -> None:
    train(
        JUDGED, LETTERS, tiny, settings(max_steps=1, per_device_train_batch_size=8), tmp_path, play=with_judge(marker())
    )
    (row,) = rows(tmp_path)
    assert row["asks/judge"] == row["asks/solver"] > 0
    assert row["tokens/sampled"] == row["tokens/judge"] + row["tokens/solver"]


def test_the_model_may_judge_itself_and_learns_from_its_answers_alone(tiny: Any) -> None:
    batch = sample(JUDGED, draw, 1, LETTERS, tiny, seed=3)
    assert batch.spent["judge"].asks == 4
    assert len(batch.signals.reward_N) == 4
    assert int((batch.signals.turn_NT >= 0).sum()) == batch.spent["solver"].tokens < batch.sampled
    assert stats(batch)["reward/unreadable"] == 1.0  # what a fresh model says is no verdict


def test_another_role_can_be_the_one_that_trains(tiny: Any) -> None:
    """The same episodes, with the judge as the learner: its rows, and the solver beside them."""
    learner = vary(JUDGED, role="judge", reward=partial(lambda task, ts: [_count(t) for t in ts]))
    batch = sample(learner, draw, 1, LETTERS, tiny, seed=3)
    assert {t.role for g in batch.groups for t in g.trajectories} == {"judge"}
    assert batch.signals.reward_N.tolist() == [1.0] * 4
    assert int((batch.signals.turn_NT >= 0).sum()) == batch.spent["judge"].tokens


def _count(trajectory: Any) -> Any:
    from ferrule.core.records import Score

    return Score(float([other.role for other in trajectory.others] == ["solver"]))


def test_one_role_leaves_no_metrics_of_its_own(tiny: Any) -> None:
    assert not [name for name in stats(sample(recipe(), draw, 1, LETTERS, tiny)) if name.endswith("/solver")]


def test_an_agent_under_another_role_than_the_recipes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Recipe\.role is 'solver', but its agent asks as 'planner'"):
        recipe(agent=ToolLoop(role="planner"))
    assert recipe(agent=ToolLoop(role="planner"), role="planner").role == "planner"
