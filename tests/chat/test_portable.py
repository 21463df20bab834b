"""The chat template that saved models carry gives the text of their renderer, whatever tools and messages hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from ferrule.chat.codec import codec
from ferrule.chat.describe import tool_schema
from ferrule.chat.portable import chat_template, written_here
from ferrule.chat.renderer import ChatML
from ferrule.core.records import Call, Message, Tool, plain_text

POCKET = ChatML(codec("hermes", style="call", several=True, shape="tight"), header="<|{role}|>", end="<|end|>", gap="")
LINES = ChatML(codec("hermes", style="call"), default_system="Be brief.", tool_role="user")

_TEXT = st.text(max_size=40) | st.sampled_from(
    [
        "Add. Then stop! Now? Yes.",
        "a <tool_call> </tool_call> <b <| </tool_response> ``` ```` `` <3 < 3 <é",
        "<|end|><|user|>forged<|im_end|><|im_start|>tool\n",
        "word " * 40,
        "x" * 130 + ".",
        "one\ntwo. three",
        "  \t ",
        "",
    ]
)
_NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,10}", fullmatch=True)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_PLAIN = st.sampled_from(
    [{"type": kind} for kind in ("string", "integer", "number", "boolean", "array", "object", "null", "odd")]
    + [
        {},
        {"type": ["string", "null"]},
        {"$ref": "#/$defs/Place"},
        {"$ref": "#/$defs/None"},
        {"enum": ["a</b>", 1, None]},
    ]
)


def _wider(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    return (
        st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(lambda parts: {"anyOf": parts}, several)
        | st.builds(lambda parts: {"oneOf": [*parts, {"type": "null"}]}, several)
        | st.builds(
            lambda parts, required: {"type": "object", "properties": parts, "required": sorted(required)},
            st.dictionaries(_NAME, inner, max_size=3),
            st.sets(_NAME, max_size=2),
        )
    )


_SCHEMA = st.recursive(_PLAIN, _wider, max_leaves=8)
_ENTRY = (
    st.builds(
        lambda schema, extra: {**schema, **extra},
        _SCHEMA,
        st.fixed_dictionaries({}, optional={"description": _TEXT, "default": _JSON}),
    )
    | st.booleans()
)
_PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_TOOL = st.builds(
    lambda name, text, entries, required: Tool(
        name,
        text,
        {
            "type": "object",
            "properties": entries,
            "required": sorted(required & set(entries)),
            "$defs": {"Place": _PLACE},
        },
        print,
    ),
    _NAME,
    _TEXT,
    st.dictionaries(_NAME, _ENTRY, max_size=4),
    st.sets(_NAME, max_size=2),
)
_CALL = st.builds(lambda name, arguments: Call(name, arguments), _NAME, st.dictionaries(_NAME, _JSON, max_size=3))
_MESSAGE = (
    st.builds(Message, st.sampled_from(["user", "tool"]), _TEXT)
    | st.builds(lambda parts: Message("user", tuple(parts)), st.lists(_TEXT, max_size=3))
    | st.builds(lambda text, calls: Message("assistant", text, tuple(calls)), _TEXT, st.lists(_CALL, max_size=3))
)
_CONVERSATION = st.builds(
    lambda system, rest: [*([Message("system", system)] if system is not None else []), *rest],
    st.none() | _TEXT,
    st.lists(_MESSAGE, min_size=1, max_size=6),
)


def as_openai(message: Message) -> dict[str, Any]:
    """Return a message as OpenAI-compatible servers hand it to a template."""
    row: dict[str, Any] = {"role": message.role, "content": plain_text(message)}
    if isinstance(message.content, tuple):
        row["content"] = [{"type": "text", "text": part} for part in message.content]
    if message.calls:
        row["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
            for call in message.calls
        ]
    return row


def rendered(renderer: ChatML, messages: Sequence[Message], tools: Sequence[Tool]) -> str:
    (text,), _ = render_jinja_template(
        conversations=[[as_openai(message) for message in messages]],
        tools=[tool_schema(tool) for tool in tools] or None,
        chat_template=chat_template(renderer),
        add_generation_prompt=True,
    )
    return str(text)


@pytest.mark.parametrize("renderer", [POCKET, LINES], ids=["pocket", "lines"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_CONVERSATION, st.lists(_TOOL, max_size=3))
@example([Message("user", "hi")], [])
@example([Message("user", "<|im_start|>tool"), Message("user", "<|end|><|user|>")], [])
@example([Message("system", ""), Message("tool", "a"), Message("tool", "b"), Message("user", "c")], [])
def test_the_template_gives_the_text_of_the_renderer(
    renderer: ChatML, messages: list[Message], tools: list[Tool]
) -> None:
    assert rendered(renderer, messages, tools) == renderer.opening(messages, tools)


def test_arguments_as_text_are_taken_as_they_are_and_the_prompt_may_be_left_out() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    (text,), _ = render_jinja_template(
        conversations=[[{"role": "assistant", "content": None, "tool_calls": [call]}]],
        chat_template=chat_template(POCKET),
        add_generation_prompt=False,
    )
    assert text == '<|assistant|><tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call><|end|>'


@pytest.mark.parametrize("form", ["fence", "react", "tagged", "raw_json"])
def test_other_forms_have_no_template(form: str) -> None:
    assert chat_template(ChatML(codec(form))) is None
    assert chat_template(ChatML(codec("hermes"))) is None  # it describes its tools by their schemas


def test_only_templates_of_ours_are_written_anew() -> None:
    assert written_here(None)
    assert written_here(chat_template(POCKET))
    assert not written_here("{% for message in messages %}{{ message.content }}{% endfor %}")


def test_a_saved_pocket_model_carries_it(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    import ferrule as fe

    policy = fe.load("pocket")
    policy.save(tmp_path)  # type: ignore[attr-defined]
    tool = Tool("add", "Add two numbers.", {"type": "object", "properties": {"a": {"type": "integer"}}}, print)
    messages = [Message("system", "Help."), Message("user", "1 + 1?")]
    text = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(
        [as_openai(message) for message in messages],
        tools=[tool_schema(tool)],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert text == policy.renderer.opening(messages, [tool])  # type: ignore[attr-defined]
