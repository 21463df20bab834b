"""Marks of search, call and fold in one stream of text."""

from __future__ import annotations

import pytest

from ferrule.chat.in_stream import InStreamCodec, last_block
from ferrule.chat.scan import UNFINISHED
from ferrule.core.records import Call, Message, Tool

CODEC = InStreamCodec()
NOTHING = {"type": "object", "properties": {}}


def test_last_block() -> None:
    """Of two blocks the last one is taken, without white space around it; one that is not closed is none."""
    assert last_block("<tool_call>a</tool_call> then <tool_call>\n b </tool_call>") == "b"
    assert last_block("<tool_call>a") == ""
    assert last_block("a</tool_call>") == ""
    assert last_block("<tool_search> maps </tool_search>", "tool_search") == "maps"


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("I need a map. <tool_search>maps of towns</tool_search>", Call("tool_search", {"query": "maps of towns"})),
        ('<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>', Call("f", {"x": 1})),
        ("Too long. <fold_thought>", Call("fold_thought")),
    ],
)
def test_actions(text: str, call: Call) -> None:
    (read,) = CODEC.read(text).calls
    assert (read.name, read.arguments, read.problem) == (call.name, call.arguments, "")


def test_a_search_that_is_not_closed_is_text_and_a_call_is_read_with_a_repair() -> None:
    for text in ("<tool_search>maps", "<fold_thou", "<tool_search>maps</tool_search"):
        message = CODEC.read(text)
        assert (message.calls, message.content) == ((), text)
    (call,) = CODEC.read('<tool_call>{"name": "f", "arguments": {}}').calls
    assert (call.name, call.repairs) == ("f", (UNFINISHED,))


def test_labels_tell_the_kinds_apart() -> None:
    text = 'a <tool_search>b</tool_search> <tool_call>{"name": "f", "arguments": {}}</tool_call> <fold_thought>'
    assert [label for label, _, _ in CODEC.spans(text)] == ["search", "call", "fold"]


def test_a_query_with_marks_is_written_as_json() -> None:
    for query in ("a <b>", " a ", ""):
        written = CODEC.write(Message("assistant", "", (Call("tool_search", {"query": query}),)))
        assert written.startswith("<tool_call>")
        assert CODEC.read(written).calls[0].arguments == {"query": query}


def test_a_fold_mark_inside_a_call_folds_nothing() -> None:
    """A call that holds the mark is written without it; one that the mark cut short is malformed, and no fold."""
    call = Call("note", {"text": "a <fold_thought> b"})
    written = CODEC.write(Message("assistant", "", (call,)))
    assert "<fold_thought>" not in written
    assert CODEC.read(written).calls[0].arguments == call.arguments
    for cut in (
        '{"name": "note", "arguments": {"text": "<fold_thought>',
        '{"name": "note", "arguments": <fold_thought>',
    ):
        (read,) = CODEC.read(f"<tool_call>{cut}").calls
        assert "ended at <fold_thought>" in read.problem
    whole = '<tool_call>{"name": "note", "arguments": {}}'
    assert [each.name for each in CODEC.read(f"{whole}<fold_thought>").calls] == ["note", "fold_thought"]
    assert [each.name for each in CODEC.read(f"{whole}</tool_call><fold_thought>").calls] == ["note", "fold_thought"]


def test_results_stand_in_marks_of_their_own() -> None:
    assert CODEC.show(Message("tool", "x", name="tool_search")) == "\n<tool_search_result>x</tool_search_result>\n"
    assert CODEC.show(Message("tool", "x", name="f")) == "\n<tool_call_result>x</tool_call_result>\n"
    assert "</tool_call_result>x" not in CODEC.show(Message("tool", "</tool_call_result>x", name="f"))


def test_only_what_is_on_offer_is_described() -> None:
    tools = [Tool(name, "", NOTHING, run=str) for name in ("f", "fold_thought")]
    told = CODEC.describe(tools)
    assert "<fold_thought>" in told
    assert "<tool_search>" not in told


def test_invalid_marks() -> None:
    with pytest.raises(ValueError, match="cannot use 'tool_call'"):
        InStreamCodec(search="tool_call")


def test_what_is_opened_twice_begins_where_it_was_opened_last() -> None:
    (search,) = CODEC.read("<tool_search>ma <tool_search>maps</tool_search>").calls
    assert search.arguments == {"query": "maps"}
    call = CODEC.read('<tool_call>{"name": "f", <tool_call>{"name": "g", "arguments": {}}</tool_call>').calls[-1]
    assert (call.name, call.problem) == ("g", "")
    inside = '<tool_call>{"name": "f", "arguments": {"x": "<tool_call>"}}</tool_call>'
    (call,) = CODEC.read(inside).calls
    assert (call.name, call.arguments) == ("f", {"x": "<tool_call>"})
