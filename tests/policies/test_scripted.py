"""Scripted policies: replies, calls read by a codec, byte ids that are only ever appended."""

from __future__ import annotations

import pytest

from ferrule.chat.codec import codec
from ferrule.chat.renderer import ChatML
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Tool, plain_text
from ferrule.policies.scripted import END_ID, Scripted, decode, encode, nonsense

HERMES = codec("hermes")
ADD = Tool("add", "Add.", {"type": "object", "properties": {"a": {"type": "integer"}}}, lambda a: a)
CALL = Message("assistant", "", (Call("add", {"a": 1}),))
QUESTION = (Message("user", "1 + 1?"),)


def test_list_is_handed_out_over_asks_and_samples() -> None:
    policy = Scripted(["a", "b", "c"])
    replies = policy.generate([Ask(QUESTION, n=2), Ask(QUESTION)])
    assert [[plain_text(r.message) for r in row] for row in replies] == [["a", "b"], ["c"]]
    with pytest.raises(IndexError, match="3 replies and was asked for number 4"):
        policy.generate([Ask(QUESTION)])


def test_one_text_is_refused_because_it_would_be_a_list_of_letters() -> None:
    with pytest.raises(TypeError, match="write \\[text\\]"):
        Scripted("abc")


def test_function_sees_ask_and_sample() -> None:
    policy = Scripted(lambda ask, sample: f"{ask.role}{sample}")
    (row,) = policy.generate([Ask(QUESTION, n=3, role="judge")])
    assert [plain_text(r.message) for r in row] == ["judge0", "judge1", "judge2"]


def test_text_is_cut_after_the_first_stop_string_and_read_by_the_codec() -> None:
    text = HERMES.write(CALL)
    ((reply,),) = Scripted([f"{text} and more"], HERMES).generate([Ask(QUESTION, tools=(ADD,))])
    assert [(c.name, dict(c.arguments), c.problem) for c in reply.message.calls] == [("add", {"a": 1}, "")]
    assert (reply.given, reply.sampled, reply.logps) == ((), (), ())


def test_encode_keeps_the_end_token_apart() -> None:
    # "é" is two bytes: c3 a9.
    assert encode("aé<E>b", "<E>") == (97, 0xC3, 0xA9, END_ID, 98)
    assert decode((97, 0xC3, 0xA9, END_ID, 98), "<E>") == "aé<E>b"


def test_ids_are_appended_piecewise_over_a_tool_call() -> None:
    renderer = ChatML(HERMES)
    policy = Scripted([CALL, "2"], renderer=renderer)
    first = Ask(QUESTION, tools=(ADD,))
    ((called,),) = policy.generate([first])
    assert called.given == encode(renderer.opening(QUESTION, (ADD,)), renderer.end)
    assert called.sampled[-1] != END_ID, "a stop string ended the reply, so no end token was written"
    result = Message("tool", "2", name="add", call_id="call_0")
    context = called.given + called.sampled
    second = Ask((*QUESTION, called.message, result), tools=(ADD,), context=context, fresh=2)
    ((answer,),) = policy.generate([second])
    assert answer.given[: len(context)] == context
    assert answer.given[len(context) :] == encode(renderer.extension([result], closed=False), renderer.end)
    assert answer.sampled == (ord("2"), END_ID)
    assert answer.logps == (0.0, 0.0)
    closed = Ask((*second.messages, answer.message, *QUESTION), context=answer.given + answer.sampled, fresh=4)
    assert policy.prompt_ids(closed)[-len(encode(renderer.extension(QUESTION, closed=True), renderer.end)) :] == encode(
        renderer.extension(QUESTION, closed=True), renderer.end
    )


def test_prefill_is_given_and_part_of_the_message() -> None:
    renderer = ChatML(HERMES)
    ((reply,),) = Scripted(["tuna"], renderer=renderer).generate([Ask(QUESTION, prefill="for")])
    assert decode(reply.given, renderer.end).endswith("assistant\nfor")
    assert plain_text(reply.message) == "fortuna"
    assert decode(reply.sampled, renderer.end) == "tuna<|im_end|>"


def test_max_tokens_counts_bytes() -> None:
    ((reply,),) = Scripted(["abcdef"], renderer=ChatML(HERMES)).generate([Ask(QUESTION, max_tokens=3)])
    assert (plain_text(reply.message), reply.finish, len(reply.sampled)) == ("abc", "length", 3)


def test_codec_that_differs_from_the_renderers_is_refused() -> None:
    with pytest.raises(ValueError, match="another codec"):
        Scripted(["a"], codec("hermes", several=True), renderer=ChatML(HERMES))


@pytest.mark.parametrize("mode", ["plain", "codec", "renderer"])
def test_nonsense_is_the_same_for_the_same_seed_and_varied(mode: str) -> None:
    def talk(seed: int) -> list[Message]:
        options = {"plain": {}, "codec": {"codec": HERMES}, "renderer": {"renderer": ChatML(HERMES)}}[mode]
        policy = nonsense(seed, **options)  # type: ignore[arg-type]
        asks = [Ask(QUESTION, n=4, tools=(ADD,), seed=i) for i in range(20)]
        return [reply.message for row in policy.generate(asks) for reply in row]

    assert talk(0) == talk(0)
    assert talk(0) != talk(1)
    said = talk(0)
    assert any(call.name not in ("add", "") for m in said for call in m.calls), "unknown tools are asked for"
    assert any(not m.calls for m in said), "some replies hold no call"
