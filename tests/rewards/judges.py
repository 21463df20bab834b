"""Driving a judge's flow as the body of an agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ferrule.core.flows import Ask, Flow
from ferrule.core.records import Task, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.worlds.session import Toolbox


def judged(flow: Flow[Any], judge: Callable[[str], str]) -> tuple[Any, list[str]]:
    """Return what the flow returns and the questions that its judge was asked."""
    result: list[Any] = []
    questions: list[str] = []

    def script(request: Ask, sample: int) -> str:
        questions.append(plain_text(request.messages[-1]))
        return judge(questions[-1])

    def agent(task: Task, session: Any) -> Flow[str]:
        result.append((yield from flow))
        return "done"

    (episode,) = drive(agent, [Task("t", "?")], Toolbox(()), {"solver": Scripted([]), "judge": Scripted(script)})
    assert not episode.problem
    return result[0], questions
