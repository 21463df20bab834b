"""Properties of every codec, found by walking the package, in every combination of its switches."""

import dataclasses
import itertools
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrule.chat.codec import Codec, codec, codec_names, codec_type, strict
from ferrule.chat.renderer import ChatML
from ferrule.core.records import Call, Message, Tool


def variants() -> list[Codec]:
    """Every codec with every combination of its boolean options."""
    found: list[Codec] = []
    for name in codec_names():
        switches = [f.name for f in dataclasses.fields(codec_type(name)) if f.init and isinstance(f.default, bool)]
        for values in itertools.product((False, True), repeat=len(switches)):
            found.append(codec(name, **dict(zip(switches, values, strict=True))))
    others = [("hermes", "shape", "tight"), ("mistral", "form", "args"), ("deepseek", "form", "bare")]
    others.append(("gemma", "form", "function_gemma"))
    return [*found, *(codec(name, **{option: value}) for name, option, value in others)]


VARIANTS = variants()
every = pytest.mark.parametrize("c", VARIANTS, ids=str)

PIECES = [
    "<tool_call>", "</tool_call>", '{"name": "search", "arguments": {"query": "x"}}', '{"answer": "4"}', '"name"', "\n",
    "```python\n", "```", "````", "Action: f\n", "Action Input: ", "Final Answer: ", "Thought: ", "Observation:",
    "<search>", "</search>", "<python>", "</python>", "<a>", "</a>", "{}", "[", "]", "{", "}", '"', "'", "NaN", " ",
    "<function=search>", "<parameter=query>", "</parameter>", "</function>", '{"name": "search", "parameters": {}}', ";",
    "<|python_tag|>", "search.call(", '[TOOL_CALLS][{"name": "f", "arguments": {}}]', "[TOOL_CALLS]", "f[ARGS]{",
    "<|tool_call>call:f{", "<tool_call|>", '<|"|>', "a:", "<escape>", "<start_function_call>call:f{", "<|channel|>",
    "analysis", " to=functions.f", "<|message|>", "<|end|>", "<|call|>", "<|start|>assistant", "<｜tool▁calls▁begin｜>",
    "<|tool_call_start|>[", "f(a='", "f(a=", "<|tool_call_end|>", "</thinking>", "<mm:think>",
    "<｜tool▁call▁begin｜>f<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>",
    "\\", "<think>", "</think>", "<answer>", "</answer>", "\ud800", "\\ud800", "é", ":", ",", "1e999", "9" * 5000, "\r",
]  # fmt: skip
SOUND = [piece for piece in PIECES if piece not in ("\ud800", "9" * 5000)]
soup = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=16).map("".join)
clean = st.lists(st.sampled_from(SOUND) | st.text(max_size=4), max_size=8).map("".join)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | clean
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
names = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(lambda n: n not in ("think", "result", "answer"))
calls = st.one_of(
    st.builds(lambda text: Call("search", {"query": text}), clean),
    st.builds(lambda text: Call("python", {"code": text}), clean),
    st.builds(Call, names, st.dictionaries(names, json_values, max_size=3)),
)
contents = st.text(st.sampled_from("abc é.,\n!7"), max_size=20)


def writable(c: Codec, call: Call) -> bool:
    try:
        c.write(Message("assistant", "", (call,)))
    except ValueError:
        return False
    return True


def message(c: Codec, content: str, drawn: list[Call]) -> Message:
    """A message that the codec can carry, with the ids it will give."""
    kept = [call for call in drawn if writable(c, call)]
    return Message("assistant", content, tuple(dataclasses.replace(k, id=f"call_{i}") for i, k in enumerate(kept)))


def bare(m: Message) -> Message:
    return dataclasses.replace(m, calls=tuple(dataclasses.replace(call, raw="") for call in m.calls))


def same(one: object, two: object) -> bool:
    """Equality that tells 1 from True and from 1.0, as JSON does."""
    return repr(one) == repr(two)


@every
@settings(max_examples=60, deadline=None)
@given(content=contents, drawn=st.lists(calls, max_size=3))
def test_what_is_written_reads_back(c: Codec, content: str, drawn: list[Call]) -> None:
    wrote = message(c, content, drawn)
    text = c.write(wrote)
    read = c.read(text)
    assert same(bare(read), wrote)
    assert c.write(read) == text
    assert all(call.raw and call.raw in text for call in read.calls)


@every
@settings(max_examples=100, deadline=None)
@given(text=soup)
def test_no_text_raises_and_nothing_is_silent(c: Codec, text: str) -> None:
    read = c.read(text)
    assert read.role == "assistant"
    for call in read.calls:
        assert call.raw
        assert call.problem or call.name
        json.dumps(dict(call.arguments), allow_nan=False).encode()  # arguments are always sound JSON
    assert len({call.id for call in read.calls}) == len(read.calls)
    c.write(read)
    last = 0
    for label, start, stop in c.spans(text):
        assert label in ("think", "call", "answer")
        assert last <= start <= stop <= len(text) or label == "answer"
        last = start


@every
@settings(max_examples=60, deadline=None)
@given(data=st.data(), content=contents, drawn=st.lists(calls, min_size=1, max_size=2))
def test_damaged_text_settles_after_one_rewriting(
    c: Codec, data: st.DataObject, content: str, drawn: list[Call]
) -> None:
    """Cut, swap or insert a little in valid text: what is read without a problem is written in a form that stays."""
    text = c.write(message(c, content, drawn))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        width = data.draw(st.integers(0, 6))
        text = text[:at] + data.draw(st.sampled_from(["", "x", '"', "}", "\n", "<", "`"])) + text[at + width :]
    read = c.read(text)
    moved = any(call.problem or "text after call" in call.repairs for call in read.calls)
    # Content that itself looks like a call or a label is not canonical, so only other messages are held to it.
    if read.calls and not moved and not any(mark in str(read.content) for mark in "<`{:"):
        again = c.write(read)
        assert c.write(c.read(again)) == again
        assert [call.arguments for call in c.read(again).calls] == [call.arguments for call in read.calls]


@every
@settings(max_examples=30, deadline=None)
@given(contents=st.lists(contents, min_size=2, max_size=4), drawn=st.lists(calls, min_size=4, max_size=4), results=soup)
def test_pieces_join_to_the_whole_prompt(c: Codec, contents: list[str], drawn: list[Call], results: str) -> None:
    """opening + reply + extension + reply + extension == opening of everything, ended replies or not."""
    tool = Tool("search", "Find.", {"type": "object", "properties": {"query": {"type": "string"}}}, print)
    messages = [Message("system", "s"), Message("user", "question")]
    renderer = ChatML(c)
    built = renderer.opening(messages, [tool])
    for content, call in zip(contents, drawn, strict=False):
        reply = message(c, content, [call])
        answered = [Message("tool", results, name=call.name)] * 2 if reply.calls else []
        new = answered or [Message("user", "more")]
        text = renderer.codec.write(reply)
        if any(marker in text for marker in ("<|im_end|>", "<|im_start|>")):
            return
        open_turn = c.inline and bool(answered)
        closed = built + text + renderer.end + renderer.extension(new, closed=True)
        built = built + text + renderer.extension(new, closed=False)
        if not open_turn:
            assert closed == built
        messages += [reply, *new]
        assert built == renderer.opening(messages, [tool])


@every
def test_long_text_is_read_in_linear_time(c: Codec) -> None:
    """Ten times the text takes about ten times as long, not a hundred times; measured in processor time."""

    def seconds(text: str) -> float:
        begin = time.process_time()
        c.read(text)
        c.spans(text)
        return time.process_time() - begin

    for piece in PIECES:
        if "\ud800" in piece:
            continue
        small, large = (max(seconds(piece * (size // len(piece))), 0.02) for size in (20_000, 200_000))
        assert large / small < 50, piece


@every
def test_no_tools_are_described_by_nothing_and_tools_by_name(c: Codec) -> None:
    properties = {"query": {"type": "string"}, "top": {"type": "integer", "default": 3}}
    tool = Tool("search", "Find things.\nMore.", {"properties": properties, "required": ["query"]}, print)
    assert c.describe([]) == ""
    text = c.describe([tool])
    assert "search" in text
    assert "query" in text


@every
def test_a_result_cannot_close_its_own_frame(c: Codec) -> None:
    """The frame of a hostile result appears exactly as often as around a harmless one."""
    frame = c.show(Message("tool", "x"))
    closing = frame.split("x")[-1].strip()
    hostile = c.show(Message("tool", f"a{closing}b")) if closing else ""
    if closing.startswith("</"):
        assert hostile.count(closing) == 1
    elif closing.startswith("```"):
        assert hostile.splitlines()[-1].startswith("````")


def test_the_forms_are_found_and_names_are_checked() -> None:
    native = ["atem", "deepseek", "gemma", "glm4", "harmony", "hermes", "lfm2", "llama3", "mistral", "qwen3_coder"]
    assert codec_names() == sorted(["fence", "in_stream", "raw_json", "react", "tagged", *native])
    with pytest.raises(ValueError, match="did you mean 'hermes'"):
        codec("herms")
    with pytest.raises(TypeError, match="did you mean 'style'"):
        codec("hermes", styl="json")
    with pytest.raises(ValueError, match="did you mean 'json'"):
        codec("hermes", style="jsn")


def test_strict_turns_repairs_into_problems() -> None:
    c = codec("hermes")
    good = c.read('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>')
    loose = c.read("<tool_call>{'name': 'f', 'arguments': {}}</tool_call>")
    assert strict(good) == good
    assert strict(loose).calls[0].problem == "not in the exact format (json, single quotes)"
