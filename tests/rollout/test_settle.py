"""Flows outside of any episode: what they return, and what becomes of one that fails."""

from __future__ import annotations

from typing import Any

from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Message, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.settle import settle


def question(text: str) -> Flow[str]:
    (reply,) = yield from ask(Ask((Message("user", text),), role="judge"))
    return plain_text(reply.message)


def failing() -> Flow[str]:
    (reply,) = yield from ask(Ask((Message("user", "?"),), role="judge"))
    raise ValueError(f"cannot read {plain_text(reply.message)!r}")


def plain() -> Flow[int]:
    return 7
    yield


def test_flows_share_batches_and_a_failure_stays_alone() -> None:
    policy = Scripted(lambda request, sample: plain_text(request.messages[-1]).upper())
    flows: list[Flow[Any]] = [question("a"), failing(), plain(), question("b")]
    told = settle(flows, {"judge": policy})
    assert told.values == ("A", None, 7, "B")
    assert [bool(problem) for problem in told.problems] == [False, True, False, False]
    assert "cannot read '?'" in told.problems[1]
    assert told.spent["judge"].asks == 3


def test_nothing_to_settle() -> None:
    assert settle([], {}).values == ()
