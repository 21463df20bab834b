"""What the model meant and finished, for every codec: no call out of thinking, none that was cut off."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrule.chat.answer import final_answer
from ferrule.chat.codec import Codec, codec, codec_names
from ferrule.chat.reply import broken_off, first_stop, in_thought, read_reply, reply_spans
from ferrule.chat.scan import THINKING, UNFINISHED
from ferrule.core.records import Call, Message, Tool
from ferrule.tools.invoke import arguments as checked

CODECS = [codec(name) for name in codec_names()]
every = pytest.mark.parametrize("c", CODECS, ids=lambda c: c.name)
TOOL = Tool(
    "python", "Run.", {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}, run=str
)
codes = st.text(st.sampled_from("ab1 {}[]\"'`<>/\\\n:,"), min_size=1, max_size=24)


def wrote(c: Codec, code: str) -> str:
    return c.write(Message("assistant", "", (Call("python", {"code": code}),)))


def codes_of(message: Message) -> list[str]:
    return [call.arguments["code"] for call in message.calls if not call.problem]


@every
@settings(max_examples=25, deadline=None)
@given(
    thought=codes,
    meant=codes,
    before=st.sampled_from(["", "Sure.\n", "<think>a</think>\n"]),
    marks=st.sampled_from(THINKING),
)
def test_calls_inside_thinking_are_no_calls(
    c: Codec, thought: str, meant: str, before: str, marks: tuple[str, str]
) -> None:
    inside, outside = f"maybe\n{wrote(c, thought)}\nno.", wrote(c, meant)
    opening, close = marks
    assert codes_of(read_reply(c, f"{before}{opening}{inside}{close}\n{outside}", tools=(TOOL,))) == [meant]
    assert codes_of(read_reply(c, f"{before}{opening}{inside}{close}\nDone.", tools=(TOOL,))) == []
    assert codes_of(read_reply(c, f"{before}{opening}{inside}", tools=(TOOL,))) == []
    # The prompt has opened it: the text closes what it did not open, or is cut off before.
    for opened in (False, True):
        assert codes_of(read_reply(c, f"{inside}{close}\n{outside}", tools=(TOOL,), opened=opened)) == [meant]
    assert codes_of(read_reply(c, inside, tools=(TOOL,), opened=True, cut=True)) == []


@every
@settings(max_examples=25, deadline=None)
@given(code=codes, data=st.data(), content=st.sampled_from(["", "Sure."]))
def test_a_call_that_was_cut_off_is_run_whole_or_not_at_all(
    c: Codec, code: str, data: st.DataObject, content: str
) -> None:
    text = c.write(Message("assistant", content, (Call("python", {"code": code}),)))
    at = data.draw(st.integers(0, len(text)))
    for call in read_reply(c, text[:at], tools=(TOOL,), cut=True).calls:
        assert call.problem or call.arguments == {"code": code}
        assert not call.problem or not call.arguments
    assert codes_of(read_reply(c, text, tools=(TOOL,), cut=True)) == [code]


@pytest.mark.parametrize("code", ["1}", '1"]}', "{[", "'}"])
@every
def test_brackets_and_quotes_inside_a_cut_text_do_not_close_it(c: Codec, code: str) -> None:
    text = c.write(Message("assistant", "", (Call("python", {"code": code}),)))
    for at in range(len(text) + 1):
        for call in read_reply(c, text[:at], tools=(TOOL,), cut=True).calls:
            assert call.problem or call.arguments == {"code": code}


@every
def test_a_cut_call_says_that_it_was_cut_off(c: Codec) -> None:
    text = wrote(c, "transfer(100)")
    (call,) = read_reply(c, text[: text.index("100") + 2], tools=(TOOL,), cut=True).calls
    assert (call.problem, call.arguments) == ("cut off", {})
    (kept,) = read_reply(c, text[: text.index("100") + 2], tools=(TOOL,)).calls
    assert UNFINISHED in kept.repairs
    assert not kept.problem


@every
@settings(max_examples=25, deadline=None)
@given(thought=codes, meant=codes)
def test_stop_strings_inside_thinking_do_not_count(c: Codec, thought: str, meant: str) -> None:
    if not c.stop:
        return
    inside = f"{wrote(c, thought)}{c.stop[0]}"
    outside = f"{wrote(c, meant).removesuffix(c.stop[0])}{c.stop[0]}"
    for text, opened in ((f"<think>{inside}</think>{outside}", False), (f"{inside}</think>{outside}", True)):
        end = first_stop(text + " and on", c.stop, opened)
        assert end > text.index("</think>")
        assert text[:end].endswith(c.stop)
    assert first_stop(f"<think>{inside}", c.stop) == first_stop(inside, c.stop, True) == -1


@pytest.mark.parametrize(("opening", "close"), [*THINKING, ("<|channel|>analysis<|message|>", "<|end|>")])
def test_the_marks_of_every_family_say_where_thinking_is_open(opening: str, close: str) -> None:
    texts = ["", opening, f"{opening}{close}", f"{opening}a{close}b{opening}"]
    assert [in_thought(text) for text in texts] == [False, True, False, True]
    assert first_stop(f"{opening}a STOP b{close} c STOP d", ["STOP"]) == len(f"{opening}a STOP b{close} c STOP")
    assert first_stop(f"{opening}a STOP b", ["STOP"]) == -1
    assert first_stop(f"{opening}a{close} b", [close]) == len(f"{opening}a{close}")


@pytest.mark.parametrize(("opening", "close"), THINKING)
def test_where_thinking_that_the_prompt_opened_is_open(opening: str, close: str) -> None:
    texts = ["", opening, close, f"{close}{opening}"]
    assert [in_thought(text) for text in texts] == [False, True, False, True]
    assert [in_thought(text, True) for text in texts] == [True, True, False, True]
    assert first_stop(f"a STOP b{close} c STOP d", ["STOP"], True) == len(f"a STOP b{close} c STOP")
    assert first_stop(f"a{close}", [close], True) == len(f"a{close}")
    assert final_answer(f"so 41{close} 42") == final_answer(f"{opening}so 41{close} 42") == "42"


def test_spans_of_thinking_that_the_prompt_opened() -> None:
    text = "so</think> 42"
    assert reply_spans(codec("hermes"), text, opened=True) == (("think", 0, 10), ("answer", 11, 13))
    assert reply_spans(codec("hermes"), "so", opened=True) == (("think", 0, 2),)
    read = read_reply(codec("hermes"), text, opened=True)
    assert (read.content, read.calls) == (text, ())


def test_only_the_unfinished_call_is_broken_off() -> None:
    calls = (Call("a", {"x": 1}, id="1"), Call("b", {"x": 1}, id="2", repairs=("json", UNFINISHED)))
    first, second = broken_off(Message("assistant", "", calls)).calls
    assert first is calls[0]
    assert (second.name, second.arguments, second.problem, second.id) == ("b", {}, "cut off", "2")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('<tool_call>{"name": "f", "arguments": {}}\n{"name": "g", "arguments": {"a": 1}}</tool_call>', ["f", "g"]),
        ('<tool_call>{"name": "f", "arguments": {}}, {"name": "g"}</tool_call>', ["f", "g"]),
        ('<tool_call>[{"name": "f", "arguments": {}}, {"name": "g"}]</tool_call>', ["f", "g"]),
        ('<tool_call>{"name": "f", "arguments": {}}\n{"name": "g", "argum</tool_call>', []),
        ('<tool_call>{"name": "f", "arguments": {}}\n{"arguments": {}}</tool_call>', []),
        ("<tool_call>{'name': 'f', 'arguments': {}} {'name': 'g', 'arguments': {}}</tool_call>", []),
        ('<tool_call>[{"name": "f", "arguments": {}}, 5]</tool_call>', []),
    ],
)
def test_calls_in_one_block_are_all_read_or_malformed(text: str, names: list[str]) -> None:
    read = codec("hermes").read(text)
    assert [call.name for call in read.calls if not call.problem] == names
    assert names or [bool(call.problem) for call in read.calls] == [True]
    if names:
        assert codec("hermes").read(codec("hermes").write(read)).calls[-1].arguments == read.calls[-1].arguments


def test_several_objects_of_the_other_json_forms() -> None:
    two = codec("raw_json").read('{"name": "f", "arguments": {}}\n{"name": "g", "arguments": {"a": 1}}')
    assert [(call.name, call.problem) for call in two.calls] == [("f", ""), ("g", "")]
    (broken,) = codec("raw_json").read('{"name": "f", "arguments": {}}\n{"name": "g", "argu').calls
    assert "more than its first call" in broken.problem
    (action,) = codec("react").read('Action: f\nAction Input: {"a": 1} {"b": 2}').calls
    assert "more than one object" in action.problem
    (apart,) = codec("react").read('Action: f\nfirst\nAction Input: {"a": 1}').calls
    assert "between Action and Action Input" in apart.problem
    assert codec("react").read("Action: f\nAction Input:\nObservation:").calls[0].arguments == {}


@pytest.mark.parametrize("form", ["hermes", "raw_json", "react"])
@pytest.mark.parametrize(("number", "text"), [("1e5", "1e5"), ("1.10", "1.10"), ("007", "007"), ("7", "7")])
def test_a_number_for_a_parameter_that_is_text_stays_as_it_was_written(form: str, number: str, text: str) -> None:
    body = codec(form).write(Message("assistant", "", (Call("python", {"code": "NUMBER"}),)))
    (call,) = codec(form).read(body.replace('"NUMBER"', number)).calls
    assert checked(TOOL, call.arguments)[0] == {"code": text}
