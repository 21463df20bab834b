import pytest

from ferrule.chat.codec import codec
from ferrule.core.records import Call, Message

J = codec("raw_json")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Message("assistant", "42"), '{"answer": "42"}'),
        (Message("assistant", "", (Call("f", {"a": 1}, id="call_0"),)), '{"name": "f", "arguments": {"a": 1}}'),
        (
            Message("assistant", "hm", (Call("f", {}, id="call_0"),)),
            '{"thought": "hm", "name": "f", "arguments": {}}',
        ),
        (
            Message("assistant", "", (Call("f", {}, id="call_0"), Call("g", {}, id="call_1"))),
            '[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]',
        ),
        (
            Message("assistant", "hm", (Call("f", {}, id="call_0"), Call("g", {}, id="call_1"))),
            '{"thought": "hm", "calls": [{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]}',
        ),
    ],
)
def test_forms(message: Message, text: str) -> None:
    assert J.write(message) == text
    read = J.read(text)
    assert read.content == message.content
    assert [(c.name, c.arguments, c.id, c.repairs) for c in read.calls] == [
        (c.name, c.arguments, c.id, ()) for c in message.calls
    ]


@pytest.mark.parametrize(
    ("text", "repairs"),
    [
        ('```json\n{"name": "f", "arguments": {}}\n```', ("fence",)),
        ('Sure: {"name": "f", "arguments": {}}', ("text before call",)),
        ('{"name": "f", "arguments": {}} ok?', ("trailing text",)),
        ("{'name': 'f', 'arguments': {}}", ("json", "single quotes")),
    ],
)
def test_repairs(text: str, repairs: tuple[str, ...]) -> None:
    (call,) = J.read(text).calls
    assert (call.name, call.problem) == ("f", "")
    assert call.repairs == repairs


def test_text_is_content_and_other_objects_are_malformed() -> None:
    assert J.read("The answer is 42.") == Message("assistant", "The answer is 42.")
    assert J.read("[1, 2]") == Message("assistant", "[1, 2]")
    (call,) = J.read('{"city": "Rome"}').calls
    assert call.problem == 'the call has no "name"'
    assert J.write(J.read('{"city": "Rome"}')) == '{"city": "Rome"}'


def test_answers_that_are_more_than_text_keep_their_json() -> None:
    text = '{"thought": "easy", "answer": 42}'
    assert J.read(text) == Message("assistant", text)
    assert J.write(J.read(text)) == text
    assert J.read('{"answer": 42}') == Message("assistant", "42")


def test_results_and_spans() -> None:
    assert J.show(Message("tool", 'say "hi"')) == '{"result": "say \\"hi\\""}'
    assert J.spans('{"name": "f", "arguments": {}}') == (("call", 0, 30),)
    assert J.spans('{"answer": "x"}') == (("answer", 0, 15),)
