from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.toys import WORLDS, layout, tiny_policy

from ferrule.agents.react import ToolLoop
from ferrule.chat.codec import codec, codec_names
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Trajectory
from ferrule.data.formats import Row, conversation, pad, trajectory_row
from ferrule.policies.scripted import Scripted, encode
from ferrule.rollout.drive import drive
from ferrule.worlds.apis import Apis


def encoder(renderer: Any) -> Any:
    return lambda text: encode(text, renderer.end)


def spelled(row: Row) -> str:
    """Write a row with the model's own text in capitals; the end token is ``/``."""
    out = ""
    for i, k in zip(row.ids, row.turn, strict=True):
        letter = "/" if i == 256 else chr(i)
        out += letter.upper() if k >= 0 else letter
    return out


def test_a_conversation_is_laid_out_turn_by_turn() -> None:
    """The model writes its answers with their end; a call ends at its closing tag, the framework ends that turn."""
    renderer = layout()
    call = Call("note", {"text": "x"}, id="call_0")
    messages = [
        Message("user", "hi"),
        Message("assistant", "", (call,)),
        Message("tool", "noted", name="note", call_id="call_0"),
        Message("assistant", "done"),
    ]
    row = conversation(messages, (), renderer, encoder(renderer))
    assert spelled(row) == (
        "<|user|>hi/<|assistant|>"
        '<TOOL_CALL>{"NAME": "NOTE", "ARGUMENTS": {"TEXT": "X"}}</TOOL_CALL>'
        "/<|tool|><tool_response>noted</tool_response>/<|assistant|>"
        "DONE/"
    )
    assert set(row.turn) == {-1, 0, 1}


def test_only_the_last_turn_may_be_trained() -> None:
    renderer = layout()
    messages = [Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d")]
    row = conversation(messages, (), renderer, encoder(renderer), last_only=True)
    assert spelled(row) == "<|user|>a/<|assistant|>b/<|user|>c/<|assistant|>D/"


def test_two_answers_in_a_row_are_two_turns() -> None:
    """Each stands in a turn of its own, as a rollout that asks again would have it."""
    renderer = layout()
    messages = [Message("user", "a"), Message("assistant", "b"), Message("assistant", "c")]
    row = conversation(messages, (), renderer, encoder(renderer))
    assert spelled(row) == "<|user|>a/<|assistant|>B/<|assistant|>C/"


@pytest.mark.parametrize("name", codec_names())
def test_a_demonstration_has_the_ids_of_a_rollout_that_says_the_same(name: str) -> None:
    """Calls, results and an answer, in every codec: what is learnt from is what will be seen."""
    world = WORLDS["apis"]
    (task,) = world.tasks("train", 1, levels=(3,))
    rounds = Apis().demonstrate(task).rounds
    tools = world.start(task).tools
    if name == "fence":
        rounds = tuple((Call("python", {"code": f"print({i})"}, id="call_0"),) for i in range(2))
    options = {"arguments": tuple((t.name, "body") for t in tools)} if name == "tagged" else {}
    renderer = type(layout())(codec(name, **options), header="<|{role}|>", end="<|end|>", gap="")
    said = [*(Message("assistant", "", tuple(calls)) for calls in rounds), Message("assistant", str(task.answer))]
    policy = Scripted(lambda ask, s: said[sum(m.role == "assistant" for m in ask.messages)], renderer=renderer)
    asks: list[Ask] = []
    generate = policy.generate
    policy.generate = lambda batch: (asks.extend(batch), generate(batch))[1]  # type: ignore[method-assign]
    (episode,) = drive(ToolLoop(), [task], world, policy)
    path = episode.trajectories[0]
    messages = [*asks[-1].messages, path.turns[-1].reply]
    assert len(path.turns) == len(said)
    assert conversation(messages, asks[-1].tools, renderer, encoder(renderer)) == trajectory_row(path)


def test_the_same_holds_for_a_real_tokenizer(one_thread: None) -> None:
    """Greedy replies of a tiny model that are in canonical form give the same row as their messages."""
    policy = tiny_policy()
    messages = [
        Message("user", "hello there"),
        Message("assistant", "ok"),
        Message("user", "\u00e9"),
        Message("assistant", "b"),
    ]
    row = conversation(messages, (), policy.renderer, policy.encode)
    assert (
        policy.stops.text(row.ids)
        == "<|user|>hello there<|end|><|assistant|>ok<|end|><|user|>\u00e9<|end|><|assistant|>b<|end|>"
    )
    own = [policy.stops.text([i for i, k in zip(row.ids, row.turn, strict=True) if k == turn]) for turn in (0, 1)]
    assert own == ["ok<|end|>", "b<|end|>"]


@pytest.mark.parametrize("messages", [[], [Message("user", "x")], [Message("assistant", "x")]])
def test_a_conversation_needs_something_to_learn_and_something_before_it(messages: list[Message]) -> None:
    renderer = layout()
    with pytest.raises(ValueError, match="needs a message before its first assistant message"):
        conversation(messages, (), renderer, encoder(renderer))


def test_padding_is_minus_one_in_both_arrays() -> None:
    ids, turn = pad([Row((5, 6, 7), (-1, 0, 0)), Row((8,), (0,))])
    assert ids.tolist() == [[5, 6, 7], [8, -1, -1]]
    assert turn.tolist() == [[-1, 0, 0], [0, -1, -1]]
    assert pad([])[0].shape == (0, 0)
    assert ids.dtype == np.int64


def test_a_trajectory_without_turns_is_an_empty_row() -> None:
    (task,) = WORLDS["apis"].tasks("train", 1)
    assert trajectory_row(Trajectory(task, ())) == Row((), ())


def test_messages_that_are_not_to_be_learned_are_read() -> None:
    renderer = layout()
    messages = [Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d")]
    row = conversation(messages, (), renderer, encoder(renderer), learned=(True, False, True, True))
    assert spelled(row) == "<|user|>a/<|assistant|>b/<|user|>c/<|assistant|>D/"
