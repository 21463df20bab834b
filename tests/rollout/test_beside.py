"""Roles that other policies answer beside the one that is trained."""

from __future__ import annotations

from typing import Any

from ferrule.core.flows import Ask
from ferrule.core.records import Message, Task
from ferrule.policies.scripted import Scripted
from ferrule.rollout.beside import beside
from ferrule.worlds.session import Toolbox


def agent(task: Task, session: Any) -> Any:
    replies = []
    for role in ("solver", "judge"):
        (reply,) = yield Ask((Message("user", task.prompt),), role=role)
        replies.append(str(reply.message.content))
    return " ".join(replies)


def test_each_role_is_answered_by_its_policy() -> None:
    play = beside({"judge": Scripted(lambda request, sample: "good")})
    mine = Scripted(lambda request, sample: "mine")
    (episode,) = play(agent, [Task("t", "?")], Toolbox(()), mine, seed=3)
    assert episode.trajectories[0].answer == "mine good"
    (episode,) = play(agent, [Task("t", "?")], Toolbox(()), {"solver": mine})
    assert episode.trajectories[0].answer == "mine good"
