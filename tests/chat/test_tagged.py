import pytest

from ferrule.chat.codec import codec
from ferrule.chat.tagged import Tagged
from ferrule.core.records import Call, Message, Tool

T = codec("tagged")


def one(text: str) -> Call:
    (call,) = T.read(text).calls
    return call


def test_the_body_is_the_one_text_argument() -> None:
    read = T.read("I look.\n<search>capital of Peru</search>")
    assert read.content == "I look."
    raw = "<search>capital of Peru</search>"
    assert read.calls == (Call("search", {"query": "capital of Peru"}, id="call_0", raw=raw),)


def test_parameter_tags_carry_json_or_text() -> None:
    call = one('<find><name>x</name><top>3</top><year>"3"</year></find>')
    assert call.arguments == {"name": "x", "top": 3, "year": "3"}
    assert T.write(Message("assistant", "", (call,))) == call.raw


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (Call("search", {"query": "1990"}), "<search>1990</search>"),
        (Call("search", {"query": "a </search> b"}), '<search><query>"a <\\/search> b"</query></search>'),
        (Call("search", {"query": "<b>x</b>"}), '<search><query>"<b>x<\\/b>"</query></search>'),
        (Call("search", {}), "<search>{}</search>"),
        (Call("search", {"query": "{}"}), '<search><query>"{}"</query></search>'),
        (Call("search", {"query": ""}), "<search></search>"),
        (Call("now", {}), "<now>{}</now>"),
        (Call("f", {"a b": 1}), '<f>{"a b": 1}</f>'),
        (Call("f", {"f": 1}), '<f>{"f": 1}</f>'),
        (Call("search", {"query": '{"query": 1}'}), '<search><query>"{\\"query\\": 1}"</query></search>'),
        (Call("search", {"query": 1, "search": 2}), '<search>{"query": 1, "search": 2}</search>'),
    ],
)
def test_what_a_plain_body_cannot_carry_is_written_with_parameter_tags(call: Call, text: str) -> None:
    assert T.write(Message("assistant", "", (call,))) == text
    read = one(text)
    assert (read.name, read.arguments, read.repairs) == (call.name, call.arguments, ())


def test_repairs() -> None:
    assert one("<search>Rome").repairs == ("unfinished",)
    assert one("<zoo>Rome</zoo>").repairs == ("bare body",)
    assert one("<f><a>1</a><a>2</a></f>").repairs == ("duplicate key",)
    assert one("<f>{'a': 1}</f>").repairs == ("json", "single quotes")


def test_thinking_answers_and_results_are_no_calls() -> None:
    text = "<think><search>x</search></think><answer>42</answer>"
    assert T.read(text) == Message("assistant", text)
    assert [(label, text[a:b]) for label, a, b in T.spans(text)] == [("think", text[:33]), ("answer", "42")]
    assert T.read("<result><search>x</search></result>").calls == ()


def test_an_answer_bears_its_tags() -> None:
    assert T.write(Message("assistant", "42")) == "<answer>42</answer>"
    assert T.read("<answer>42</answer>") == Message("assistant", "42")
    assert codec("tagged", answer="").write(Message("assistant", "42")) == "42"


def test_of_takes_bodies_from_the_tools_and_leaves_other_tags_alone() -> None:
    parameters = {"properties": {"top": {"type": "integer"}, "text": {"type": "string"}}, "required": ["text"]}
    c = Tagged.of([Tool("look", "Look.", parameters, print)])
    assert c.arguments == (("look", "text"),)
    assert c.stop == ("</look>",)
    read = c.read("<b>bold</b>\n<look>x</look>")
    assert read.content == "<b>bold</b>"
    assert read.calls[0].arguments == {"text": "x"}
    assert "<look><top>...</top><text>...</text></look>" in c.describe([Tool("look", "Look.", parameters, print)])


@pytest.mark.parametrize("written", ["007", "1e5", "1.10", "true", "null", '"quoted words"', "[1, 2]", " x ", "5"])
def test_a_parameter_that_is_text_stays_as_it_was_written(written: str) -> None:
    properties = {"text": {"type": "string"}, "top": {"type": "integer"}}
    tool = Tool("look", "Look.", {"properties": properties}, print)
    text = f"<look><text>{written}</text><top>3</top></look>"
    for c in (T.typed([tool]), Tagged.of([tool])):
        assert c.read(text).calls[0].arguments == {"text": written, "top": 3}
    wrote = Message("assistant", "", (Call("look", {"text": written, "top": 3}, id="call_0"),))
    assert T.typed([tool]).read(T.write(wrote)).calls[0].arguments == wrote.calls[0].arguments


def test_arguments_inside_a_tag_are_not_dropped() -> None:
    (call,) = T.read('<search top="3">Rome</search>').calls
    assert (call.arguments, call.problem) == (
        {},
        "arguments are written between <search> and </search>, not inside the tag",
    )
    assert not T.read('<b class="x">Rome</b>').calls


def test_a_tool_without_parameters_takes_nothing() -> None:
    c = Tagged.of([Tool("now", "Time.", {"properties": {}}, print)])
    assert [c.read(text).calls[0].arguments for text in ("<now></now>", "<now> \n</now>", "<now>{}</now>")] == [{}] * 3


def test_settings_from_json_and_bad_settings() -> None:
    assert codec("tagged", arguments=[["f", "x"]]) == Tagged(arguments=(("f", "x"),))
    with pytest.raises(ValueError, match="as a tag"):
        codec("tagged", arguments=(("a b", "x"),))
    with pytest.raises(ValueError, match="tags of their own"):
        codec("tagged", arguments=(("answer", "x"),))
    with pytest.raises(ValueError, match="not usable as a tag"):
        T.write(Message("assistant", "", (Call("a b", {}),)))
    with pytest.raises(ValueError, match="argument names"):
        T.write(Message("assistant", "", (Call("search", {"a b": 1}),)))
