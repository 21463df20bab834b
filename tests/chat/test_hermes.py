import json

import pytest

from ferrule.chat.codec import codec
from ferrule.chat.parsing import MAX_CALLS
from ferrule.core.records import Call, Message
from ferrule.policies.endpoint.wire import from_choice
from ferrule.worlds.messages import from_messages

H = codec("hermes")


def one(text: str) -> Call:
    (call,) = H.read(text).calls
    return call


def test_the_published_form() -> None:
    wrote = Message(
        "assistant", "Let me look.", (Call("search", {"query": "Rome"}, id="call_0"), Call("now", {}, id="call_1"))
    )
    text = (
        'Let me look.\n<tool_call>\n{"name": "search", "arguments": {"query": "Rome"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    )
    assert H.write(wrote) == text
    read = H.read(text)
    assert read.content == "Let me look."
    assert [(c.name, c.arguments, c.id, c.repairs) for c in read.calls] == [
        ("search", {"query": "Rome"}, "call_0", ()),
        ("now", {}, "call_1", ()),
    ]
    assert read.calls[1].raw == text[text.index("\n<tool_call>\n" + '{"name": "now"') + 1 :]


def test_a_closing_tag_inside_a_string_neither_ends_the_call_nor_the_reply() -> None:
    wrote = Message("assistant", "", (Call("echo", {"text": "a </tool_call> {b} <tool_call>"}, id="call_0"),))
    text = H.write(wrote)
    assert text.count("</tool_call>") == 1  # written as <\/tool_call>, the same JSON string
    assert H.read(text).calls[0].arguments == wrote.calls[0].arguments
    plain = '<tool_call>\n{"name": "echo", "arguments": {"text": "a </tool_call> b"}}\n</tool_call>'
    assert one(plain).arguments == {"text": "a </tool_call> b"}


@pytest.mark.parametrize(
    ("body", "arguments", "repairs"),
    [
        ("{'name': 'f', 'arguments': {'a': 1}}", {"a": 1}, ("json", "single quotes")),
        ('{"name": "f", "arguments": {"a": 1}', {"a": 1}, ("json",)),
        ('{"name": "f", "parameters": {"a": 1}}', {"a": 1}, ("parameters",)),
        ('{"name": "f", "arguments": "{\\"a\\": 1}"}', {"a": 1}, ("arguments as text",)),
        ('{"name": "f"}', {}, ("no arguments",)),
        ('{"name": "f", "arguments": null}', {}, ("no arguments",)),
        ('{"tool": "f", "arguments": {"a": 1}}', {"a": 1}, ("tool",)),
        ('{"function": {"name": "f", "arguments": {"a": 1}}}', {"a": 1}, ("function wrapper",)),
        ('{"function": {"name": "f"}, "arguments": {"a": 1}}', {"a": 1}, ("function wrapper",)),
        ('{"function": {"name": "f"}, "index": 1}', {"index": 1}, ("function wrapper", "arguments beside name")),
        ('{"name": "f", "index": 1}', {"index": 1}, ("arguments beside name",)),
        ('{"name": "f", "arguments": {"a": 0, "a": 1}}', {"a": 1}, ("duplicate key",)),
        ('{"name": "f", "arguments": {"a": "\\ud800"}}', {"a": "\ufffd"}, ("unicode",)),
        ('{"name": "f", "arguments": {"a": 1}} }', {"a": 1}, ("trailing text",)),
        ('{"name": "f", "a": 1}', {"a": 1}, ("arguments beside name",)),
        ('{"type": "function", "name": "f", "arguments": null, "a": 1}', {"a": 1}, ("arguments beside name",)),
        ('{"name": "f", "arguments": ""}', {}, ("no arguments",)),
        ('{"name": "f", "arguments": " \\n"}', {}, ("no arguments",)),
        ('{"name": "f", "arguments": "{}\\"\\""}', {}, ("trailing text", "arguments as text")),
    ],
)
def test_repairs_are_named(body: str, arguments: dict[str, object], repairs: tuple[str, ...]) -> None:
    call = one(f"<tool_call>\n{body}\n</tool_call>")
    assert (call.name, call.arguments, call.repairs, call.problem) == ("f", arguments, repairs, "")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "empty call"),
        ("hello", "not a JSON object"),
        ("[1, 2]", "must be a JSON object, not list"),
        ('{"arguments": {}}', 'no "name"'),
        ('{"name": 3, "arguments": {}}', 'no "name"'),
        ('{"name": "f", "arguments": {"a": 1}, "why": 2}', "['why'] stand beside 'arguments'"),
        ('{"name": "f", "arguments": {}, "parameters": {"a": 1}}', "['parameters'] stand beside 'arguments'"),
        ('{"function": {"name": "f", "arguments": {}}, "a": 1}', "['a'] stand beside 'arguments'"),
        ('{"name": "f", "arguments": {}, "index": 1}', "['index'] stand beside 'arguments'"),
        ('{"function": {"name": "f", "arguments": {}, "index": 1}}', "['index'] stand beside 'arguments'"),
        ('{"index": 0, "function": {"name": "f", "arguments": {}}, "status": "open"}', "['status'] stand beside"),
        ('{"type": "function", "name": "f", "arguments": {}, "description": "d"}', "['description'] stand beside"),
        ('{"name": "f", "arguments": {"a": 1}, "arguments": {"b": 1}}', "'arguments' twice"),
        ('{"name": "f", "arguments": [1]}', "must be a JSON object, not list"),
        ('{"name": "f", "arguments": "rome"}', "not the text 'rome'"),
        ('{"name": "f", "arguments": {"a": NaN}}', "NaN is not a JSON number"),
        ('{"name": "f", "arguments": {"a": -Infinity}}', "-Infinity is not a JSON number"),
        ('{"name": "f", "arguments": {"a": 1e999}}', "inf is not a JSON number"),
        ('{"name": "f", "arguments": {"a": ' + "[" * 70 + "]" * 70 + "}}", "nested deeper than 64"),
        ('{"name": "f", "arguments": {"a": "' + "x" * 9000, "too long to repair"),
    ],
)
def test_unreadable_calls_are_malformed(body: str, problem: str) -> None:
    call = one(f"<tool_call>\n{body}\n</tool_call>")
    assert problem in call.problem
    assert call.id == "call_0"


SERVERS = [  # as servers write calls, in pieces and whole, and what libraries make of these
    {"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}},
    {"index": 1, "id": "x", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
    {"index": 0, "id": "x", "function": {"name": "f", "arguments": {"a": 1}}, "type": None, "status": None},
    {"id": "fc", "call_id": "x", "type": "function_call", "name": "f", "arguments": '{"a": 1}', "status": "completed"},
    {"index": 0, "type": "tool_use", "id": "x", "name": "f", "input": {"a": 1}},
    {"function": {"name": "f", "arguments": {"a": 1}}, "id": "x", "arguments": None, "extra_content": None},
]


@pytest.mark.parametrize("entry", SERVERS)
def test_what_servers_write_around_a_call_is_no_argument(entry: dict[str, object]) -> None:
    calls = [one(f"<tool_call>{json.dumps(entry)}</tool_call>")]
    calls += from_messages([{"role": "assistant", "tool_calls": [entry]}])[0].calls
    choice = {"message": {"role": "assistant", "content": None, "tool_calls": [entry]}, "finish_reason": "tool_calls"}
    calls += from_choice(choice, {}, codec=None).message.calls
    assert [(call.name, call.arguments, call.id, call.problem) for call in calls] == [("f", {"a": 1}, "x", "")] * 3


def test_text_after_a_call_is_kept_and_noted() -> None:
    read = H.read('a\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call> and then')
    assert read.content == "a\nand then"
    assert read.calls[0].repairs == ("text after call",)


def test_missing_tags() -> None:
    assert one('<tool_call>\n{"name": "f", "arguments": {}}').repairs == ("unfinished",)
    assert one('{"name": "f", "arguments": {}}\n</tool_call>').repairs == ("no opening tag",)
    two = H.read('<tool_call>{"name": "f", "arguments": {}}<tool_call>{"name": "g", "arguments": {}}</tool_call>').calls
    assert [(c.name, c.repairs) for c in two] == [("f", ("no closing tag",)), ("g", ())]


def test_calls_inside_thinking_are_not_made() -> None:
    thought = '<think>maybe <tool_call>{"name": "f", "arguments": {}}</tool_call></think>'
    assert H.read(thought + "no").calls == ()
    read = H.read(thought + '\n<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>')
    assert [c.name for c in read.calls] == ["g"]
    assert not H.read('<think>x\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>').calls


def test_ids_of_the_text_are_kept_and_repeated_ones_replaced() -> None:
    block = '<tool_call>{"name": "f", "arguments": {}, "id": "a"}</tool_call>'
    first, second = H.read(block + block).calls
    assert (first.id, first.repairs) == ("a", ())
    assert (second.id, second.repairs) == ("call_1", ("repeated id",))


def test_too_many_calls_end_in_one_malformed_call() -> None:
    calls = H.read('<tool_call>{"name": "f", "arguments": {}}</tool_call>' * (MAX_CALLS + 5)).calls
    assert len(calls) == MAX_CALLS
    assert calls[-1].problem == f"more than {MAX_CALLS} calls in one message"
    assert not calls[-2].problem


def test_spans_label_thinking_calls_and_answer() -> None:
    text = '<think>t</think>\n<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    assert [(label, text[a:b]) for label, a, b in H.spans(text)] == [
        ("think", "<think>t</think>"),
        ("call", text[17:]),
    ]
    assert H.spans("<think>t</think> 42 ") == (("think", 0, 16), ("answer", 17, 19))


def test_stop_and_tight_shape() -> None:
    assert H.stop == ("</tool_call>",)
    assert codec("hermes", several=True).stop == ()
    tight = codec("hermes", shape="tight")
    text = tight.write(Message("assistant", "", (Call("f", {"a": 1}),)))
    assert text == '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    assert tight.show(Message("tool", "7")) == "<tool_response>7</tool_response>"
    with pytest.raises(ValueError, match="'lines', 'tight'"):
        codec("hermes", shape="wide")
