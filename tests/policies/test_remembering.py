"""Asks that say the same are answered from memory: what is the same, and what is not kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from ferrule.core.flows import Ask
from ferrule.core.records import Message, Reply, plain_text
from ferrule.policies.remembering import remembering


class Counting:
    """Replies with the number of asks so far; one to "fail" ends by an error."""

    name = "counting"

    def __init__(self) -> None:
        self.count = 0

    def _answer(self, ask: Ask) -> list[Reply]:
        self.count += 1
        failed = plain_text(ask.messages[-1]) == "fail"
        return [Reply(Message("assistant", str(self.count)), finish="error" if failed else "stop")] * ask.n

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        return [self._answer(ask) for ask in asks]


class OneByOne(Counting):
    async def agenerate(self, ask: Ask) -> list[Reply]:
        return self._answer(ask)


def asked(text: str, seed: int = 0, **more: float) -> Ask:
    return Ask((Message("user", text),), seed=seed, temperature=more.pop("temperature", 0.0))


def texts(replies: Sequence[Sequence[Reply]]) -> list[str]:
    return [plain_text(each[0].message) for each in replies]


def test_the_same_question_reaches_the_policy_once() -> None:
    policy = remembering(Counting())
    assert texts(policy.generate([asked("a"), asked("b"), asked("a", seed=7)])) == ["1", "2", "1"]
    assert texts(policy.generate([asked("b", seed=9), asked("c")])) == ["2", "3"]
    assert (policy.asked, policy.reached) == (5, 3)
    assert policy.name == "counting"
    assert not hasattr(policy, "agenerate")


def test_votes_and_other_limits_are_questions_of_their_own() -> None:
    policy = remembering(Counting())
    votes = [asked("a", seed=seed, temperature=1.0) for seed in (1, 2, 1)]
    assert texts(policy.generate(votes)) == ["1", "2", "1"]
    assert texts(policy.generate([replace(votes[0], max_tokens=3), replace(votes[0], n=2)])) == ["3", "4"]


def test_failures_are_asked_again() -> None:
    policy = remembering(Counting())
    assert texts(policy.generate([asked("fail")])) == ["1"]
    assert texts(policy.generate([asked("fail")])) == ["2"]


def test_one_ask_at_a_time() -> None:
    policy = remembering(OneByOne())

    async def play() -> list[str]:
        return [plain_text((await policy.agenerate(asked(text)))[0].message) for text in ("a", "a", "b")]

    assert asyncio.run(play()) == ["1", "1", "2"]
    assert (policy.asked, policy.reached) == (3, 2)
