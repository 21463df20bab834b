import pytest

from ferrule.chat.codec import codec
from ferrule.core.records import Call, Message

R = codec("react")


def one(text: str) -> Call:
    (call,) = R.read(text).calls
    return call


def test_the_published_form_continues_in_line() -> None:
    wrote = Message("assistant", "I search.", (Call("search", {"query": "Rome"}),))
    text = 'Thought: I search.\nAction: search\nAction Input: {"query": "Rome"}\nObservation:'
    assert R.write(wrote) == text
    read = R.read(text)
    assert read.content == "I search."
    assert (read.calls[0].name, read.calls[0].arguments, read.calls[0].repairs) == ("search", {"query": "Rome"}, ())
    assert R.show(Message("tool", "a city")) == " a city\n"
    assert R.stop == ("\nObservation:",)


def test_the_form_with_messages_of_their_own() -> None:
    c = codec("react", inline=False)
    assert c.write(Message("assistant", "", (Call("now", {}),))) == "Action: now\nAction Input: {}"
    assert c.show(Message("tool", "noon")) == "Observation: noon"


def test_final_answers_are_labelled_once() -> None:
    assert R.write(Message("assistant", "42")) == "Final Answer: 42"
    assert R.read("Final Answer: 42") == Message("assistant", "42")
    text = "Thought: easy\nFinal Answer: 42"
    assert R.read(text) == Message("assistant", text)
    assert R.write(R.read(text)) == text
    assert [(label, text[a:b]) for label, a, b in R.spans(text)] == [("answer", "42")]


@pytest.mark.parametrize(
    ("text", "arguments", "repairs"),
    [
        ("Action: f\nAction Input: Rome in May", {"input": "Rome in May"}, ("unfinished", "text input")),
        ('Action: f\nAction Input: "Rome"', {"input": "Rome"}, ("text input",)),
        ("Action: f\nAction Input: {'a': 1}", {"a": 1}, ("json", "single quotes")),
        ('Action: f\nAction Input: ```json\n{"a": 1}\n```', {"a": 1}, ("fence",)),
        ('**Action:** f\n**Action Input:** {"a": 1}', {"a": 1}, ("label",)),
        ('Action 1: f\nAction Input 1: {"a": 1}', {"a": 1}, ("label",)),
        ("Action: f", {}, ("unfinished", "no arguments")),
        ('Action: f\nAction Input: {"a": 1} please', {"a": 1}, ("trailing text",)),
        ('Final Answer: 3\nAction: f\nAction Input: {"a": 1}', {"a": 1}, ("answer beside call",)),
    ],
)
def test_repairs(text: str, arguments: dict[str, object], repairs: tuple[str, ...]) -> None:
    call = one(text)
    assert (call.name, call.arguments, call.repairs, call.problem) == ("f", arguments, repairs, "")


def test_problems() -> None:
    assert one("Action Input: {}").problem == "Action Input without an Action before it"
    assert "must be a JSON object" in one("Action: f\nAction Input: [1]").problem
    assert one("Action:\nAction Input: {}").problem == 'the call has no "name"'


def test_invented_observations_are_kept_as_content_and_noted() -> None:
    read = R.read('Action: f\nAction Input: {"a": 1}\nObservation: made up\nFinal Answer: 3')
    assert read.calls[0].repairs == ("text after call",)
    assert "made up" in str(read.content)


def test_two_actions() -> None:
    wrote = Message("assistant", "", (Call("f", {"a": "\nAction: g"}, id="call_0"), Call("g", {}, id="call_1")))
    read = R.read(R.write(wrote))
    assert [(c.name, c.arguments) for c in read.calls] == [("f", {"a": "\nAction: g"}), ("g", {})]
