"""The turn loop token for token: budgets, reasons to stop, and observations that are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.toys import Bench

from ferrule.agents.action import ActionLoop, cut, finished, stop_reason
from ferrule.core.arrays import pack
from ferrule.core.flows import Ask, Session
from ferrule.core.records import Call, Message, Observation, Reply, Score, Task, Tool, Trajectory
from ferrule.policies.scripted import Scripted
from ferrule.rewards.efficiency import call_cost
from ferrule.rollout.drive import drive
from ferrule.worlds.session import ToolSession

TASK = Task("t", "?", answer="yes")


class Ids:
    """A policy over bare ids: what it samples, whether a stop string ended it; observations are texts of ids."""

    def __init__(self, *turns: tuple[Sequence[int], str]) -> None:
        self.turns = turns
        self.asked: list[Ask] = []

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        return [[self._reply(ask)] for ask in asks]

    def _reply(self, ask: Ask) -> Reply:
        self.asked.append(ask)
        sampled, ending = self.turns[sum(m.role == "assistant" for m in ask.messages)]
        new = [int(i) for m in ask.messages[ask.fresh :] for i in str(m.content).split()]
        message = Message("assistant", "".join(f"{i} " for i in sampled) + ("</t>" if ending == "</t>" else ""))
        if ending == "</t>":
            message = replace(message, calls=(Call("look", {}, id=str(len(ask.messages))),))
        return Reply(
            message,
            given=(*ask.context, *new),
            sampled=tuple(sampled),
            logps=(0.0,) * len(sampled),
            finish="length" if ending == "length" else "stop",
        )


@dataclass(frozen=True)
class Shows:
    """A world whose tool shows texts of ids one after another; a text that ends in ``done`` ends the episode."""

    texts: tuple[str, ...]
    name: str = "shows"

    def tasks(self, *_: Any, **__: Any) -> list[Task]:
        return [Task("t", "7 7 7")]

    def start(self, task: Task, seed: int = 0) -> Session:
        left = list(self.texts)

        def look() -> Observation:
            text = left.pop(0)
            return Observation(text.removesuffix(" done"), terminal=text.endswith("done"))

        return ToolSession(task, lambda _: (Tool("look", "", {"type": "object", "properties": {}}, run=look),))


def spell(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


def read(text: str) -> list[int]:
    return [int(word) for word in text.split()]


LOOP = ActionLoop(turns=4, stop=("</t>",), encode=read, decode=spell, marker="900 901", max_action=8, max_response=40)


def played(loop: ActionLoop, shown: Sequence[str], *turns: tuple[Sequence[int], str]) -> tuple[Trajectory, Ids]:
    world, policy = Shows(tuple(shown)), Ids(*turns)
    (episode,) = drive(loop, world.tasks(), world, policy)
    assert not episode.problem
    return episode.trajectories[0], policy


def response(trajectory: Trajectory) -> tuple[list[int], list[int]]:
    """Ids after the prompt and their mask."""
    signals = pack([trajectory], [Score(0.0)], [0])
    prompt = len(trajectory.turns[0].given)
    return signals.ids_NT[0, prompt:].tolist(), (signals.turn_NT[0, prompt:] >= 0).astype(int).tolist()


def test_turns_token_for_token() -> None:
    """gen [1,2] stop </t>, obs [50], gen [3] end: ids [1,2,50,3], mask [1,1,0,1]."""
    path, _ = played(LOOP, ["50"], ([1, 2], "</t>"), ([3], "end"))
    assert response(path) == ([1, 2, 50, 3], [1, 1, 0, 1])
    assert stop_reason(path, LOOP) == "model_chose_to_finish"
    assert finished(stop_reason(path, LOOP))
    assert call_cost(path) == 1


def test_a_call_in_the_last_reply_is_dropped() -> None:
    """M = 2 tool turns are 3 generations; the third wants a tool as well, which is not called."""
    loop = replace(LOOP, turns=2)
    path, _ = played(loop, ["50 51", "52", "53"], ([1, 2], "</t>"), ([3], "</t>"), ([4], "</t>"))
    assert response(path) == ([1, 2, 50, 51, 3, 52, 4], [1, 1, 0, 0, 1, 0, 1])
    assert stop_reason(path, loop) == "max_turns_reached"
    assert not finished("max_turns_reached")
    assert call_cost(path) == 2


def test_every_reply_gets_what_is_left() -> None:
    """Action 8, response 12: min(8, 12) = 8; after 2 + 3 tokens min(8, 7) = 7; after 7 more none is left."""
    loop = replace(LOOP, max_response=12)
    path, policy = played(loop, ["50 51 52", "60"], ([1, 2], "</t>"), ([3] * 6, "</t>"))
    assert [ask.max_tokens for ask in policy.asked] == [8, 7]
    assert stop_reason(path, loop) == "max_model_len_exceeded"


def test_other_reasons_to_stop() -> None:
    path, _ = played(LOOP, ["50 done"], ([1], "</t>"))
    assert stop_reason(path, LOOP) == "tool_signaled_done"
    assert path.answer == "50"
    path, _ = played(LOOP, [], ([1] * 8, "length"))
    assert stop_reason(path, LOOP) == "no_action_stop_token"
    path, _ = played(replace(LOOP, max_response=8), [], ([1] * 8, "length"))
    assert stop_reason(path, replace(LOOP, max_response=8)) == "max_response_length_reached"
    assert stop_reason(Trajectory(TASK, ()), LOOP) == "max_model_len_exceeded"


def test_the_model_sees_cut_observations() -> None:
    """60 ids at limit 4 in the middle: the first two, the marker, the last two."""
    path, _ = played(replace(LOOP, max_observation=4), [spell(range(50, 60))], ([1], "</t>"), ([2], "end"))
    assert response(path)[0] == [1, 50, 51, 900, 901, 58, 59, 2]


def test_without_ids_bytes_are_counted() -> None:
    """Prompt excluded: 'aaaa' is 4 of 10, '7' 1 more, so 5 are left; the text after the stop string never counts."""
    asked: list[int | None] = []

    def speak(ask: Ask, sample: int) -> str:
        asked.append(ask.max_tokens)
        return "aaaa" if len(ask.messages) > 1 else "aa<t>invented"

    policy = Scripted(speak)
    loop = ActionLoop(stop=("<t>",), max_action=9, max_response=10)
    (episode,) = drive(loop, Bench().tasks("train", 1), Bench(), policy)
    assert asked[0] == 9
    text = "malformed call: no action could be read before the stop string"
    assert asked[1:] == ([] if 10 - 5 - len(text) <= 0 else [10 - 5 - len(text)])
    assert episode.trajectories[0].answer == "aa<t>"


def test_ids_are_cut_on_the_named_side() -> None:
    ids, marker = range(50, 60), [900, 901]
    assert cut(ids, 4, marker=marker, side="left") == (56, 57, 58, 59, 900, 901)
    assert cut(ids, 4, marker=marker, side="right") == (50, 51, 52, 53, 900, 901)
    assert cut(ids, 4, marker=marker, side="middle") == (50, 51, 900, 901, 58, 59)
    assert cut(ids, 10, marker=marker) == tuple(ids)
    assert cut(ids, 1, marker=marker) == (900, 901)
    with pytest.raises(ValueError, match="known: left, middle, right"):
        cut(ids, 4, side="up")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the least is 0"):
        cut(ids, -1)
    with pytest.raises(ValueError, match="ActionLoop needs"):
        ActionLoop(max_action=0)
