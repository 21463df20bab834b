"""Refining tasks one after the other: what a row holds, and that failures are said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.agents.test_refiner import COUNT

from ferrule.agents.refiner import Refiner
from ferrule.core.flows import Session
from ferrule.core.records import Task
from ferrule.evaluate.refined import RefinedTask, refine_tasks
from ferrule.policies.scripted import Scripted
from ferrule.worlds.session import Toolbox


@dataclass(frozen=True)
class Report:
    wrong: str


@dataclass(frozen=True)
class Audited:
    """Tools for any task; an answer of three letters is wrong in the end."""

    name: str = "audited"

    def start(self, task: Task, seed: int = 0) -> Session:
        return Toolbox((COUNT,)).start(task, seed)

    def audit(self, task: Task, answer: str) -> Report:
        return Report("three letters" if len(answer) == 3 else "")


def test_every_task_has_a_row_and_an_audit() -> None:
    seen: list[RefinedTask] = []
    tasks = [Task("a", "p", "abcd"), Task("b", "q", "abc")]
    policy = Scripted(["a", "abcd", "abc", "ab"])
    world: Any = Audited()
    rows = refine_tasks(Refiner(rounds=2), policy, world, tasks, done=seen.append)
    assert rows == seen
    assert [(row.task, row.answer, row.proposals, row.outcome) for row in rows] == [
        ("a", "abcd", 2, 1.0),
        ("b", "abc", 2, 1.0),
    ]
    assert [row.audit for row in rows] == [{"wrong": ""}, {"wrong": "three letters"}]


def test_a_failed_episode_is_said_and_the_next_one_is_played() -> None:
    tasks = [Task("a", "p", "x", meta={"check": "none"}), Task("b", "p", "x")]
    failed, row = refine_tasks(Refiner(rounds=1), Scripted(["abc"]), Toolbox((COUNT,)), tasks)
    assert "'none'" in failed.episode.problem
    assert (failed.answer, failed.outcome, failed.proposals, failed.audit) == (None, 0.0, 0, None)
    assert (row.episode.problem, row.answer, row.outcome, row.audit) == ("", "abc", 0.0, None)
