"""What each role of an episode took is counted apart, and the answer stays with the role that solves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.rollout.test_drive import Driver, driver, one, panel, says
from tests.toys import Bench, layout

from ferrule.core.flows import Ask
from ferrule.core.records import Message, Score, Task
from ferrule.evaluate.evaluate import evaluate
from ferrule.policies.scripted import Scripted
from ferrule.rollout.record import dump, parse
from ferrule.rollout.spent import Spent, added, metrics_of

__all__ = ["driver"]


def policies() -> dict[str, Any]:
    return {"solver": says("a", "b"), "judge": Scripted(lambda ask, s: f"vote {s}", renderer=layout())}


def last_word(task: Task, session: Any) -> Any:
    """A solver answers, and a judge has the last word."""
    (reply,) = yield Ask((Message("user", task.prompt),), max_tokens=9)
    yield Ask((Message("user", f"right? {reply.message.content}"),), role="judge", max_tokens=9)
    return str(reply.message.content)


def test_roles_are_metered_apart(driver: Driver) -> None:
    """Bytes and an end token each: the solver wrote a and b (2 * 2), two judges vote 0 and vote 1, cut at 6 tokens."""
    episode = one(driver, panel, policies())
    assert episode.spent == {"solver": Spent(2, 4), "judge": Spent(1, 12)}
    assert all(0 < took.seconds <= episode.seconds for took in episode.spent.values())
    assert sum(took.tokens for took in episode.spent.values()) == episode.sampled_count


def test_the_answer_is_the_solvers_when_the_judge_spoke_last(driver: Driver) -> None:
    episode = one(driver, last_word, policies())
    assert [(t.role, t.answer, t.finish) for t in episode.trajectories] == [
        ("solver", "a", "answer"), ("judge", None, "cancelled"),
    ]  # fmt: skip


def test_without_a_solver_the_answer_is_that_of_the_role_which_asked_first(driver: Driver) -> None:
    def agent(task: Task, session: Any) -> Any:
        (reply,) = yield Ask((Message("user", task.prompt),), role="writer")
        yield Ask((Message("user", "right?"),), role="judge")
        return str(reply.message.content)

    episode = one(driver, agent, says("text"))
    assert [(t.role, t.answer) for t in episode.trajectories] == [("writer", "text"), ("judge", None)]


def test_the_record_keeps_what_was_spent(driver: Driver) -> None:
    episode = one(driver, panel, policies())
    back, _ = parse(dump(episode))
    assert back == episode
    assert back.spent["judge"].seconds == episode.spent["judge"].seconds
    older = json.loads(dump(episode))
    del older["spent"]
    assert parse(json.dumps(older))[0] == replace(episode, spent={})


def test_a_path_knows_those_of_other_roles(driver: Driver) -> None:
    episode = one(driver, panel, policies())
    (path,) = episode.of_role("solver")
    assert [t.reply.content for other in path.others for t in other.turns] == ["vote 1", "vote 0"]
    assert [other.role for judge in episode.of_role("judge") for other in judge.others] == ["solver", "solver"]
    assert not any(t.others for t in episode.trajectories)


def test_an_episode_that_never_asked_belongs_to_every_role(driver: Driver) -> None:
    def agent(task: Task, session: Any) -> Any:
        raise RuntimeError("no")
        yield

    episode = one(driver, agent)
    assert episode.of_role("anyone") == episode.trajectories
    assert episode.spent == {}


def test_an_evaluation_counts_by_role_and_its_reward_reads_the_judge() -> None:
    """Two tokens of the solver per episode, and of the judge "vote 0" with its end: 7."""

    def reward(task: Task, trajectories: Any) -> list[Score]:
        return [Score(float(t.role == "solver" and [o.role for o in t.others] == ["judge"])) for t in trajectories]

    world = Bench()
    evaluation = evaluate(last_word, policies(), world, world.tasks("test", 3), reward=reward)
    by_role = evaluation.as_dict()["by_role"]
    counts = {role: (took["asks"], took["tokens"]) for role, took in by_role.items()}
    assert counts == {"judge": (1.0, 7.0), "solver": (1.0, 2.0)}
    assert by_role["judge"]["seconds"] > 0
    assert evaluation.success == 1.0
    assert evaluation.as_dict(rows=True)["rows"][0]["spent"]["judge"]["tokens"] == 7


def test_sums_and_metrics() -> None:
    spent = added([{"b": Spent(1, 2, 0.5)}, {"a": Spent(3, 4), "b": Spent(1, 1, 0.25)}])
    assert list(spent) == ["a", "b"]
    assert metrics_of(spent) == {
        "asks/a": 3.0, "tokens/a": 4.0, "seconds/a": 0.0, "asks/b": 2.0, "tokens/b": 3.0, "seconds/b": pytest.approx(0.75),
    }  # fmt: skip
    assert metrics_of({"a": Spent(3, 4)}) == {}
