"""Policies on a cassette: replies come back whole, and an ask that differs from its recording is refused by name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.toys import layout

from ferrule.core.flows import Ask
from ferrule.core.records import Call, Image, Message, Reply, Span, Tool
from ferrule.policies.endpoint.http import PolicyError
from ferrule.policies.recorded import recorded
from ferrule.policies.scripted import Scripted
from ferrule.worlds.cassette import Cassette

ASK = Ask((Message("user", "hello"),), seed=11)
WHOLE = Reply(
    Message(
        "assistant", ("look", Image("data:,x")), (Call("f", {"a": [1, None]}, "c1", "raw \ud800", "", ("fixed",)),)
    ),
    given=(1, 2, 3),
    sampled=(4, 5),
    logps=(-0.1, -1e-300),
    finish="length",
    spans=(Span("call", 0, 2),),
    extras={"entropy": (0.5, float("inf")), "n": 3},
)


class Fixed:
    """A policy that gives one reply, ``n`` times, and counts its asks."""

    name = "fixed"

    def __init__(self, reply: Reply = WHOLE) -> None:
        self.reply, self.asked = reply, 0

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        self.asked += len(asks)
        return [[self.reply] * ask.n for ask in asks]


class Slow(Fixed):
    """The same, able to answer one ask on an event loop."""

    async def agenerate(self, ask: Ask) -> list[Reply]:
        await asyncio.sleep(0)
        return self.generate([ask])[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "replies.jsonl"


def kept(path: Path, policy: Any, *asks: Ask) -> list[list[Reply]]:
    with Cassette(path, "record") as cassette:
        return recorded(policy, cassette).generate(asks)


def test_replies_come_back_whole(path: Path) -> None:
    asks = [ASK, replace(ASK, seed=12, n=3), replace(ASK, seed=12, role="judge")]
    made = kept(path, Fixed(), *asks)
    played = recorded(None, Cassette(path, "replay")).generate(asks)
    assert played == made
    assert played[1] == [WHOLE] * 3
    assert type(played[0][0].extras["entropy"]) is tuple


def test_ids_of_the_context_are_kept_once(path: Path) -> None:
    long = tuple(range(1000))
    known = replace(ASK, context=long)
    kept(path, Fixed(replace(WHOLE, given=(*long, 7))), known)
    assert path.stat().st_size < 2000
    ((reply,),) = recorded(None, Cassette(path, "replay")).generate([known])
    assert reply.given == (*long, 7)


def test_replies_that_do_not_continue_the_context_come_back_as_they_were(path: Path) -> None:
    """A policy that makes its ids again from text is found out in a replay as well."""
    known = replace(ASK, context=(9, 9))
    made = kept(path, Fixed(), known)
    assert recorded(None, Cassette(path, "replay")).generate([known]) == made


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 5}, r"seed 5, role 'solver', n 1; it holds 1 asks of other seeds"),
        ({"n": 2}, r"n 2; recorded for this seed: role 'solver', n 1"),
        ({"role": "judge"}, r"role 'judge', n 1; recorded for this seed: role 'solver', n 1"),
        ({"messages": (Message("user", "hallo"),)}, "recorded with other messages"),
        ({"tools": (Tool("f", "", {}, run=str),)}, "recorded with other tools"),
        ({"max_tokens": 3, "context": (1,)}, "recorded with other limits, context ids"),
    ],
)
def test_an_ask_that_was_not_recorded_is_named(path: Path, change: dict[str, Any], said: str) -> None:
    kept(path, Fixed(), ASK)
    cassette = Cassette(path, "replay")
    with pytest.raises(PolicyError, match=said):
        recorded(None, cassette).generate([replace(ASK, **change)])
    assert len(cassette.misses) == 1


def test_repeated_asks_are_played_in_their_order(path: Path) -> None:
    with Cassette(path, "record") as cassette:
        policy = recorded(Scripted(["one", "two"], renderer=layout()), cassette)
        made = [policy.generate([ASK]) for _ in range(2)]
    policy = recorded(None, Cassette(path, "replay"))
    assert [policy.generate([ASK]) for _ in range(3)] == [*made, made[1]]
    assert made[0] != made[1]


def test_a_replay_does_not_ask(path: Path) -> None:
    kept(path, Fixed(), ASK)
    silent = Fixed()
    assert recorded(silent, Cassette(path, "replay")).generate([ASK])
    assert silent.asked == 0


def test_live_only_passes_on(path: Path) -> None:
    policy = recorded(Fixed(), Cassette(path))
    assert policy.generate([ASK]) == [[WHOLE]]
    assert not path.exists()


def test_powers_and_attributes_are_those_of_the_policy_inside(path: Path) -> None:
    with Cassette(path, "record") as cassette:
        assert not hasattr(recorded(Fixed(), cassette), "agenerate")
        policy = recorded(Slow(), cassette)
        assert policy.name == "fixed"
        assert asyncio.run(policy.agenerate(ASK)) == [WHOLE]
    player = recorded(None, Cassette(path, "replay"))
    assert asyncio.run(player.agenerate(ASK)) == [WHOLE]
    with pytest.raises(AttributeError, match="no_such"):
        _ = player.no_such


def test_settings_that_could_not_work_are_refused(path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be in the cassette mode 'dummy'"):
        recorded(Fixed(), Cassette(mode="dummy"))
    with pytest.raises(ValueError, match="needs a policy"):
        recorded(None, Cassette())
