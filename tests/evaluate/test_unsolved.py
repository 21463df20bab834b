"""Tasks that a policy cannot solve without tools."""

from __future__ import annotations

from tests.toys import WORLDS

from ferrule.evaluate.unsolved import unsolved
from ferrule.policies.scripted import Scripted


def test_questions_that_fail_without_tools_are_kept() -> None:
    world = WORLDS["user"]
    tasks = world.tasks("train", 3)
    known, answer = tasks[0].prompt, str(tasks[0].answer)
    policy = Scripted(lambda request, sample: answer if request.messages[-1].content == known else "99")
    assert unsolved(tasks, world, policy) == tasks[1:]
    assert unsolved(tasks, world, policy, most=1) == tasks[1:2]
