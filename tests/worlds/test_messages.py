from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrule.core.records import Call, Image, Message, Tool
from ferrule.worlds.messages import from_messages, marked_messages


def test_messages_in_the_openai_form() -> None:
    rows = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "a1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                {"function": {"name": "g", "arguments": {"y": [2]}}},
                {"name": "h"},
            ],
        },
        {"role": "tool", "content": "r", "name": "f", "tool_call_id": "a1"},
        {"role": "assistant", "content": "done"},
    ]
    system, user, calling, result, last = from_messages(rows)
    assert (system.role, user.content, calling.content, last.content) == ("system", "u", "", "done")
    assert calling.calls == (Call("f", {"x": 1}, "a1"), Call("g", {"y": [2]}, "call_1"), Call("h", {}, "call_2"))
    assert (result.name, result.call_id) == ("f", "a1")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"role": "user", "contnt": "x"}, r"message 0: unknown field 'contnt'; did you mean 'content'\?"),
        ({"role": "bot", "content": "x"}, "message 0: role is 'bot'; valid: system, developer, user, human, assistant"),
        ({"content": "x"}, "message 0: role is None"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{x"}}]},
            "message 0, call 0: arguments are not JSON",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]},
            "message 0, call 0: arguments are a list, not an object",
        ),
        ({"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]}, "message 0, call 0: no name"),
        ({"role": "user", "content": 3}, "message 0: content is of type int"),
    ],
)
def test_messages_that_cannot_be_read_are_refused_with_their_place(row: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_messages([row])


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        ({"function": {"name": "f"}, "arguments": {"x": 1}}, ""),
        ({"name": "f", "args": {"x": 1}, "description": None, "status": "completed"}, ""),
        ({"function": "f", "arguments": '{"x": 1}'}, ""),
        ({"name": "f", "x": 1}, "'x'"),
        ({"function": {"name": "f"}, "x": 1}, "'x'"),
        ({"function": {"name": "f", "arguments": {}, "x": 1}}, "'x'"),
        ({"function": {"name": "f", "arguments": {"x": 1}, "parameters": {"y": 1}}}, "'parameters'"),
    ],
)
@pytest.mark.parametrize("form", ["tool_calls", "function_call", "sharegpt"])
def test_arguments_beside_the_name_are_read_or_refused(entry: Any, wrong: str, form: str) -> None:
    row = {
        "tool_calls": {"role": "assistant", "tool_calls": [entry]},
        "function_call": {"role": "assistant", "function_call": entry},
        "sharegpt": {"from": "function_call", "value": json.dumps(entry)},
    }[form]
    if wrong:
        with pytest.raises(ValueError, match=rf"message 0, call 0: \[{wrong}\] stand beside"):
            from_messages([row])
    else:
        assert [call.arguments for call in from_messages([row])[0].calls] == [{"x": 1}]


def test_content_in_parts_is_joined_text_and_images() -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,xx"}}]
    (message,) = from_messages([{"role": "user", "content": parts}])
    assert message.content == ("look", Image("data:image/png;base64,xx"))
    (plain,) = from_messages([{"role": "user", "content": [{"type": "text", "text": "a"}]}])
    assert plain.content == ("a",)
    with pytest.raises(ValueError, match="message 0: unknown part type 'audio'"):
        from_messages([{"role": "user", "content": [{"type": "audio"}]}])


# --------------------------------------------------------------------------------------------------- as the field writes


def test_fields_that_servers_and_other_projects_write() -> None:
    rows = [
        {"role": "system", "content": "s", "name": None, "tool_calls": None, "weight": None},
        {"role": "developer", "content": "d"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": None, "refusal": None, "reasoning_content": " why ", "audio": None,
         "function_call": {"name": "f", "arguments": '{"x": null}'}},
        {"role": "function", "name": "f", "content": "r"},
        {"role": "assistant", "content": "", "refusal": "I cannot.", "weight": 0},
    ]  # fmt: skip
    messages, learned = marked_messages(rows)
    assert [message.role for message in messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert messages[0].content == "s\n\nd"
    assert messages[2] == Message("assistant", "<think>\nwhy\n</think>\n\n", (Call("f", {"x": None}, id="call_0"),))
    assert messages[4].content == "I cannot."
    assert learned == (True, True, True, True, False)


@pytest.mark.parametrize("role", ["function_call", "tool_call"])
def test_sharegpt_conversations(role: str) -> None:
    rows = [
        {"from": "human", "value": "u"},
        {"from": role, "value": '[{"name": "f", "arguments": {"a": 1}}, {"name": "g"}]'},
        {"from": "observation", "value": "o"},
        {"from": "gpt", "value": "x", "weight": 1},
    ]
    assert from_messages(rows) == (
        Message("user", "u"),
        Message("assistant", "", (Call("f", {"a": 1}, id="call_0"), Call("g", {}, id="call_1"))),
        Message("tool", "o"),
        Message("assistant", "x"),
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"role": "assistant", "content": "x", "weight": 0.5}, "weight is 0.5; valid: 0"),
        ({"role": "user", "content": "x", "reasoning": "y"}, "'user' has reasoning, which only the assistant writes"),
        ({"role": "user", "content": "x", "tool_calls": [{"name": "f"}]}, "'user' has calls, which only the assistant"),
        ({"from": "function_call", "value": "f()"}, "message 0: the calls are not JSON"),
        ({"role": "user", "content": [{"type": "image"}]}, "message 0: an image part names no image"),
        ("hello", "message 0: it is a str, not an object with role and content"),
    ],
)
def test_what_has_no_meaning_is_refused(row: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_messages([row])


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "a.png"},
        {"type": "image", "url": "a.png", "text": None},
        {"type": "image", "path": "a.png"},
        {"type": "image", "image": {"bytes": None, "path": "a.png"}},
        {"type": "input_image", "image_url": "a.png"},
        {"type": "image_url", "image_url": {"url": "a.png", "detail": None}},
    ],
)
def test_image_parts_in_the_forms_of_many_projects(part: Any) -> None:
    (message,) = from_messages([{"role": "user", "content": [{"type": "input_text", "text": "t"}, part]}])
    assert message.content == ("t", Image("a.png"))


def test_bytes_and_pillow_images_become_data_urls() -> None:
    from PIL import Image as Pillow

    gif = {"type": "image", "image": {"bytes": b"GIF89a", "path": None}}
    source = {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "/9g="}}
    drawn = {"type": "image", "image": Pillow.new("RGB", (1, 1))}
    ((first, second, third),) = (m.content for m in from_messages([{"role": "user", "content": [gif, source, drawn]}]))
    assert first == Image("data:image/gif;base64,R0lGODlh", "image/gif")
    assert second == Image("data:image/jpeg;base64,/9g=", "image/jpeg")
    assert isinstance(third, Image)
    assert third.source.startswith("data:image/png;base64,iVBORw0KGgo")


# ---------------------------------------------------------------------------------------------------- nulls of arrow files

SIMPLE = st.one_of(st.text(max_size=4), st.integers(-9, 9), st.booleans())
NESTED = st.dictionaries(st.sampled_from("pqr"), st.integers(0, 9), min_size=1, max_size=3)
ARGUMENTS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.just(0), min_size=1)


@st.composite
def calls(draw: Any) -> list[dict[str, Any]]:
    """Calls of tools with arguments of their own; one name has one type everywhere, as columns of arrow need it."""
    kinds = {"a": st.text(max_size=4), "b": NESTED, "c": st.lists(NESTED, min_size=1, max_size=3)}
    names = draw(st.lists(st.sampled_from(["f", "g"]), min_size=1, max_size=5))
    return [{"name": name, "arguments": {key: draw(kinds[key]) for key in draw(ARGUMENTS)}} for name in names]


@given(calls())
@settings(max_examples=40, deadline=None)
def test_arguments_come_back_from_an_arrow_table_without_the_nulls_it_fills_in(made: list[dict[str, Any]]) -> None:
    import pyarrow as pa

    rows = [[{"role": "assistant", "content": "", "tool_calls": [{"function": call}]}] for call in made]
    stored = pa.Table.from_pylist([{"messages": row} for row in rows]).to_pylist()
    read = [from_messages(row["messages"])[0].calls[0] for row in stored]
    assert [(call.name, call.arguments) for call in read] == [(call["name"], call["arguments"]) for call in made]


def test_a_null_that_the_tool_takes_stays_and_one_in_a_json_text_too() -> None:
    parameters = {
        "type": "object",
        "properties": {
            "note": {"type": ["string", "null"]},
            "city": {"type": "string"},
            "where": {"$ref": "#/$defs/w"},
        },
        "$defs": {"w": {"type": "object", "properties": {"lat": {"anyOf": [{"type": "number"}, {"type": "null"}]}}}},
    }
    tool = Tool("f", "", parameters, print)
    arguments = {"note": None, "city": None, "zone": None, "where": {"lat": None, "lon": None}}
    row = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
    assert from_messages([row], [tool])[0].calls[0].arguments == {"note": None, "where": {"lat": None}}
    assert from_messages([row])[0].calls[0].arguments == {"where": {}}
    written = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": json.dumps(arguments)}}]}
    assert from_messages([written], [tool])[0].calls[0].arguments == arguments
