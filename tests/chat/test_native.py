"""The native forms of model families: the texts that their models write, and what is read from texts that are off."""

from __future__ import annotations

from typing import Any

import pytest
from tests.templates import CALLS, CHATML, tokenizer_with

from ferrule.chat.codec import codec
from ferrule.chat.family import spoken
from ferrule.chat.fitted import fitted
from ferrule.chat.parsing import MAX_CALLS
from ferrule.chat.reply import in_thought, read_reply
from ferrule.chat.template import Template
from ferrule.core.records import Call, Message, Tool
from ferrule.worlds.messages import from_messages

TWO = (Call("find", {"query": "Rome", "top": 3}, id="call_0"), Call("now", {}, id="call_1"))
SECTION = "<｜tool▁calls▁begin｜>{}<｜tool▁calls▁end｜>"
CALL = "<｜tool▁call▁begin｜>{}<｜tool▁call▁end｜>"
PUBLISHED: dict[str, tuple[str, dict[str, str], str]] = {
    "qwen3_coder": (
        "qwen3_coder",
        {},
        "Sure.\n<tool_call>\n<function=find>\n<parameter=query>\nRome\n</parameter>\n<parameter=top>\n3\n</parameter>\n"
        "</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
    ),
    "glm4": (
        "glm4",
        {},
        "Sure.\n<tool_call>find\n<arg_key>query</arg_key>\n<arg_value>Rome</arg_value>\n<arg_key>top</arg_key>\n"
        "<arg_value>3</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>",
    ),
    "llama3": (
        "llama3",
        {},
        'Sure.\n{"name": "find", "parameters": {"query": "Rome", "top": 3}}\n{"name": "now", "parameters": {}}',
    ),
    "mistral, list": (
        "mistral",
        {},
        'Sure.[TOOL_CALLS][{"name": "find", "arguments": {"query": "Rome", "top": 3}}, {"name": "now", "arguments": {}}]',
    ),
    "mistral, args": (
        "mistral",
        {"form": "args"},
        'Sure.[TOOL_CALLS]find[ARGS]{"query": "Rome", "top": 3}[TOOL_CALLS]now[ARGS]{}',
    ),
    "gemma": (
        "gemma",
        {},
        'Sure.<|tool_call>call:find{query:<|"|>Rome<|"|>,top:3}<tool_call|><|tool_call>call:now{}<tool_call|>'
        "<|tool_response>",
    ),
    "function_gemma": (
        "gemma",
        {"form": "function_gemma"},
        "Sure.<start_function_call>call:find{query:<escape>Rome<escape>,top:3}<end_function_call>"
        "<start_function_call>call:now{}<end_function_call><start_function_response>",
    ),
    "harmony": (
        "harmony",
        {},
        "<|channel|>commentary<|message|>Sure.<|end|><|start|>assistant to=functions.find<|channel|>commentary json"
        '<|message|>{"query": "Rome", "top": 3}<|call|><|start|>assistant to=functions.now<|channel|>commentary json'
        "<|message|>{}<|call|>",
    ),
    "atem": (
        "atem",
        {},
        ' to=user<|message|>Sure.<|eom|><|start|>assistant to=find<|message|><atem:function_calls>\n<atem:invoke name="find">\n'
        '<atem:parameter name="query">Rome</atem:parameter>\n<atem:parameter name="top">3</atem:parameter>\n</atem:invoke>\n'
        '</atem:function_calls><|eom|><|start|>assistant to=now<|message|><atem:function_calls>\n<atem:invoke name="now">\n'
        "</atem:invoke>\n</atem:function_calls>",
    ),
    "lfm2": (
        "lfm2",
        {},
        "Sure.<|tool_call_start|>[find(query='Rome', top=3), now()]<|tool_call_end|>",
    ),
    "deepseek, fence": (
        "deepseek",
        {},
        "Sure."
        + SECTION.format(
            CALL.format('function<｜tool▁sep｜>find\n```json\n{"query": "Rome", "top": 3}\n```')
            + "\n"
            + CALL.format("function<｜tool▁sep｜>now\n```json\n{}\n```")
        ),
    ),
    "deepseek, bare": (
        "deepseek",
        {"form": "bare"},
        "Sure."
        + SECTION.format(
            CALL.format('find<｜tool▁sep｜>{"query": "Rome", "top": 3}') + CALL.format("now<｜tool▁sep｜>{}")
        ),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_form(name: str) -> None:
    form, options, text = PUBLISHED[name]
    c = codec(form, **options)
    assert c.write(Message("assistant", "Sure.", TWO)) == text
    read = c.read(text)
    assert read.content == "Sure."
    assert [(call.name, dict(call.arguments), call.id, call.repairs) for call in read.calls] == [
        ("find", {"query": "Rome", "top": 3}, "call_0", ()),
        ("now", {}, "call_1", ()),
    ]


READ: list[tuple[str, str, list[tuple[str, dict[str, Any], tuple[str, ...]]]]] = [
    # Qwen3-Coder often leaves the outer tag out, and closes nothing before the next call.
    (
        "qwen3_coder",
        "<function=f>\n<parameter=a>\n1\n</parameter>\n</function>",
        [("f", {"a": 1}, ("no opening tag",))],
    ),
    ("qwen3_coder", "<tool_call>\n<function=f>\n</function>\nok</tool_call>", [("f", {}, ("trailing text",))]),
    (
        "qwen3_coder",
        "<tool_call>\n<function=f>\n<parameter=a>\n\n two\nlines \n</parameter>\n</function>\n</tool_call>",
        [("f", {"a": "\n two\nlines "}, ())],
    ),
    # GLM leaves line breaks out, and closes nothing before the next call.
    ("glm4", "<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>", [("f", {"a": 1}, ())]),
    (
        "glm4",
        "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>\n two \n</arg_value>\n<tool_call>g</tool_call>",
        [("f", {"a": "\n two \n"}, ("no closing tag",)), ("g", {}, ())],
    ),
    (
        "glm4",
        "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n<arg_key>a</arg_key>\n<arg_value>2</arg_value>\nok",
        [("f", {"a": 2}, ("trailing text", "unfinished", "duplicate key"))],
    ),
    # Llama writes several objects with semicolons, and code or a call of a built-in tool after the tag.
    (
        "llama3",
        '<|python_tag|>{"name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}}<|eom_id|>',
        [("f", {"a": 1}, ()), ("g", {}, ())],
    ),
    ("llama3", '<|python_tag|>search.call(query="Rome")<|eom_id|>', [("search", {"query": "Rome"}, ("python tag",))]),
    ("llama3", "<|python_tag|>print(1)<|eom_id|>", [("python", {"code": "print(1)"}, ("python tag",))]),
    ("llama3", '{"type": "function", "name": "f", "parameters": {"a": 1}}', [("f", {"a": 1}, ())]),
    ("llama3", 'The row is\n{"name": "Rome", "size": 3}', []),  # an object in an answer is no call
    (
        "mistral",
        '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}, "id": "abcDEF123"}]',
        [("f", {"a": 1}, ())],
    ),
    ("mistral", '[TOOL_CALLS]f[CALL_ID]abcDEF123[ARGS]{"a": 1}', [("f", {"a": 1}, ())]),
    ("mistral", '[TOOL_CALLS]f{"a": 1}', [("f", {"a": 1}, ())]),
    # Gemma waits for the result with the mark that begins it; earlier templates wrote None and True.
    (
        "gemma",
        "<|tool_call>call:f{a:None,b:[true,1.5]}<tool_call|><|tool_response>",
        [("f", {"a": None, "b": [True, 1.5]}, ())],
    ),
    ("gemma", "<|tool_call>call:f{city:Rome}<tool_call|>", [("f", {"city": "Rome"}, ("bare text",))]),
    # LFM2 quotes either way, writes lists as Python or JSON, leaves quotes inside text as they are, and writes JSON too.
    (
        "lfm2",
        '<|tool_call_start|>[f(a="it\'s", b=[\'x\', 1.5, None], c={"d": true}, e=False)]<|tool_call_end|>',
        [("f", {"a": "it's", "b": ["x", 1.5, None], "c": {"d": True}, "e": False}, ())],
    ),
    (
        "lfm2",
        "<|tool_call_start|>[f(a='it's', b='two\nlines')]<|tool_call_end|>",
        [("f", {"a": "it's", "b": "two\nlines"}, ("quotes",))],
    ),
    ("lfm2", "<|tool_call_start|>f(class=1)<|tool_call_end|>", [("f", {"class": 1}, ("no brackets",))]),
    ("lfm2", "<|tool_call_start|>[f(a=007)]<|tool_call_end|>", [("f", {"a": "007"}, ("bare text",))]),
    (
        "lfm2",
        '<|tool_call_start|>[{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]<|tool_call_end|>',
        [("f", {"a": 1}, ("JSON",)), ("g", {}, ("JSON",))],
    ),
    # gpt-oss writes the recipient on either side of the channel, and its own tools in the channel of thinking.
    (
        "harmony",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.f "
        '<|constrain|>json<|message|>{"a": 1}<|call|>',
        [("f", {"a": 1}, ())],
    ),
    (
        "harmony",
        "<|channel|>analysis to=python code<|message|>print(1)<|call|>",
        [("python", {"code": "print(1)"}, ("built-in tool", "code"))],
    ),
    ("harmony", " to=functions.f<|channel|>commentary json<|message|><|call|>", [("f", {}, ("no arguments",))]),
    # Muse Glimmer thinks in a message to itself, and may put several calls into one block or leave the header out.
    (
        "atem",
        " to=self<|message|>Hm. <atem:function_calls><|eom|><|start|>assistant to=f<|message|><atem:function_calls>\n"
        '<atem:invoke name="f">\n<atem:parameter name="a"> two\nlines </atem:parameter>\n</atem:invoke>\n<atem:invoke name="f">'
        "</atem:invoke>\n</atem:function_calls><|eot|>",
        [("f", {"a": " two\nlines "}, ()), ("f", {}, ())],
    ),
    (
        "atem",
        '<atem:function_calls><atem:invoke name="f"><atem:parameter name="a">[1, "x"]</atem:parameter></atem:invoke>',
        [("f", {"a": [1, "x"]}, ("no recipient", "unfinished"))],
    ),
    (
        "deepseek",
        CALL.format('function<｜tool▁sep｜>f\n```json\n{"a": 1}\n```') + "<｜tool▁calls▁end｜>",
        [("f", {"a": 1}, ("no opening mark",))],
    ),
]


@pytest.mark.parametrize(("form", "text", "calls"), READ)
def test_what_models_write(form: str, text: str, calls: list[Any]) -> None:
    read = codec(form).read(text)
    assert [(call.name, dict(call.arguments), call.repairs) for call in read.calls] == calls
    assert not any(call.problem for call in read.calls)


@pytest.mark.parametrize(
    ("form", "text", "problem"),
    [
        ("qwen3_coder", "<tool_call>\nfind Rome\n</tool_call>", "no <function=name> in the block"),
        ("qwen3_coder", "<tool_call><function=f><parameter=a>1<parameter=b>2</parameter></function></tool_call>", "<parameter=a> is not closed"),
        ("glm4", '<tool_call>{"name": "f"}</tool_call>', "more than a name, and keys with values"),
        ("glm4", "<tool_call></tool_call>", "the call has no name"),
        ("glm4", "<tool_call>f<arg_key>a</arg_key><arg_value>1<arg_key>b</arg_key></tool_call>", "the value of 'a' is not closed"),
        ("llama3", '<|python_tag|>search.call("Rome")', "need their names"),
        ("llama3", "<|python_tag|>search.call(query=now())", "not a call with plain values"),
        ("llama3", '{"name": "f", "parameters": {"a": 1}, "b": 2}', "stand beside 'parameters'"),
        ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": {}}, {"arguments": {}}]', 'no "name"'),
        ("gemma", "<|tool_call>f{}<tool_call|>", "no call:name{"),
        ("harmony", " to=functions.f<|channel|>commentary json<|message|>[1]<|call|>", "must be a JSON object, not list"),
        ("lfm2", "<|tool_call_start|>[f('Rome')]<|tool_call_end|>", "arguments need their names"),
        ("lfm2", "<|tool_call_start|>[f(a=g())]<|tool_call_end|>", "neither ',' nor ')'"),
        ("lfm2", "<|tool_call_start|>[f(a=1) g()]<|tool_call_end|>", "stands where a call belongs"),
        ("lfm2", "<|tool_call_start|>Rome<|tool_call_end|>", "stands where a call belongs"),
        ("atem", " to=f<|message|>Rome", "no whole <atem:invoke"),
        ("atem", " to=f<|mess", "the header of the call is not finished"),
        ("atem", '<atem:function_calls><atem:invoke name="f"><atem:parameter name="a">1<|eom|>', "'a' is not closed"),
        ("deepseek", SECTION.format(CALL.format("f {}")), "no name and <｜tool▁sep｜>"),
        ("deepseek", SECTION.format(CALL.format("f<｜tool▁sep｜>{}") + "and g"), "stands where a call belongs"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_malformed_call(form: str, text: str, problem: str) -> None:
    (call,) = codec(form).read(text).calls
    assert problem in call.problem
    assert call.raw


def test_values_are_typed_by_the_tools() -> None:
    properties = {"zip": {"type": "string"}, "deep": {"type": "boolean"}, "near": {"type": "integer"}}
    tool = Tool("f", "F.", {"type": "object", "properties": properties}, print)
    values = {"zip": "00123", "deep": "True", "near": "7"}
    body = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    text = f"<tool_call>\n<function=f>\n{body}</function>\n</tool_call>"
    (call,) = read_reply(codec("qwen3_coder"), text, tools=(tool,)).calls
    assert call.arguments == {"zip": "00123", "deep": True, "near": 7}
    pairs = "".join(f"<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n" for key, value in values.items())
    (call,) = read_reply(codec("glm4"), f"<tool_call>f\n{pairs}</tool_call>", tools=(tool,)).calls
    assert call.arguments == {"zip": "00123", "deep": True, "near": 7}


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        {"type": ["string", "null"]},
        {"oneOf": [{"$ref": "#/$defs/Note"}, {"type": "null"}]},
        {"$ref": "#/$defs/Note"},
    ],
)
@pytest.mark.parametrize("form", ["qwen3_coder", "glm4"])
@pytest.mark.parametrize(
    "value", ["[1]", '{"a": 1}', '"quoted"', "1e5", "true", "null", "None", '"null"', " None\n", "</q>"]
)
def test_text_that_may_be_null_stays_text(schema: dict[str, Any], value: str, form: str) -> None:
    """What a person's ``note: str | None = None`` becomes, and a type that the schema defines elsewhere."""
    parameters = {"type": "object", "properties": {"q": schema}, "$defs": {"Note": {"type": "string"}}}
    tools = (Tool("f", "F.", parameters, print),)
    c = codec(form).typed(tools)  # type: ignore[attr-defined]
    (call,) = c.read(c.write(Message("assistant", "", (Call("f", {"q": value}),)))).calls
    assert (dict(call.arguments), call.problem) == ({"q": value}, "")
    bare = f"<tool_call>\n<function=f>\n<parameter=q>\n{value}\n</parameter>\n</function>\n</tool_call>"
    if form == "glm4":
        bare = f"<tool_call>f\n<arg_key>q</arg_key>\n<arg_value>{value}</arg_value>\n</tool_call>"
    if value in ("[1]", '{"a": 1}', '"quoted"', "1e5", "true"):
        assert read_reply(codec(form), bare, tools=tools).calls[0].arguments == {"q": value}
    elif value in ("null", "None"):
        wanted = value if "$ref" in schema else None
        assert read_reply(codec(form), bare, tools=tools).calls[0].arguments == {"q": wanted}


def test_ids_of_nine_letters_and_digits_are_written_and_others_left_out() -> None:
    for form in ("list", "args"):
        c = codec("mistral", form=form)
        kept = Message("assistant", "", (Call("f", {}, id="abcDEF123"),))
        assert "abcDEF123" in c.write(kept)
        assert c.read(c.write(kept)).calls[0].id == "abcDEF123"
        assert "call_0" not in c.write(Message("assistant", "", (Call("f", {}, id="call_0"),)))


def test_thinking_of_harmony_is_the_analysis_channel() -> None:
    c = codec("harmony")
    text = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>42"
    assert c.read(text).content == "<think>Hm.</think>42"
    assert c.write(c.read(text)) == text
    assert [(kind, text[a:b]) for kind, a, b in c.spans(text)] == [("think", "Hm."), ("answer", "42")]


def test_a_tool_that_atem_would_read_as_thinking_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot write the name 'self': what is written to it is thinking"):
        codec("atem").write(Message("assistant", "", (Call("self", {"a": 1}),)))
    called = codec("atem").read(codec("atem").write(Message("assistant", "", (Call("user", {"a": 1}),)))).calls
    assert [(call.name, call.arguments, call.repairs) for call in called] == [("user", {"a": 1}, ())]


def test_thinking_of_atem_is_a_message_to_itself() -> None:
    c = codec("atem")
    text = " to=self<|message|>Hm.<|eom|><|start|>assistant to=user<|message|>42"
    assert c.read(text).content == "<think>Hm.</think>42"
    assert c.write(c.read(text)) == text
    assert [(kind, text[a:b]) for kind, a, b in c.spans(text)] == [("think", "Hm."), ("answer", "42")]
    assert in_thought(" to=self<|message|>Hm. <atem:function_calls>")
    assert not in_thought(text)
    assert c.read(" to=self<|message|>or <atem:function_calls><atem:invoke name='f'>").calls == ()
    (reply,) = from_messages([{"role": "assistant", "content": "42", "reasoning_content": "Hm."}])
    assert c.write(reply) == text


def test_harmony_has_no_line_breaks_around_the_thinking_of_data_sets() -> None:
    """``reasoning_content`` becomes a block with the line breaks that Qwen writes; gpt-oss writes none."""
    rows = [{"role": "assistant", "content": "42", "reasoning_content": "Hm."}]
    (reply,) = from_messages(rows)
    analysis = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
    assert codec("harmony").write(reply) == f"{analysis}<|channel|>final<|message|>42"
    rows[0] |= {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}  # type: ignore[dict-item]
    (reply,) = from_messages(rows)
    call = " to=functions.f<|channel|>commentary json<|message|>{}<|call|>"
    assert codec("harmony").write(reply) == analysis + call


@pytest.mark.parametrize(
    "form", ["qwen3_coder", "glm4", "llama3", "mistral", "gemma", "harmony", "deepseek", "lfm2", "atem"]
)
def test_marks_inside_text_end_nothing(form: str) -> None:
    c = codec(form)
    marks = [
        "</tool_call>",
        "<arg_key>",
        "</arg_value>",
        "</parameter>",
        "<parameter=b>",
        "<|eom_id|>",
        "[TOOL_CALLS]",
        "<tool_call|>",
        "<|call|>",
        "<|tool_call_end|>",
        "<|tool_call_start|>",
        "'",
        "\\'",
        "<|eom|>",
        "<|start|>",
        "</atem:parameter>",
        "<atem:invoke",
    ]
    call = Call("f", {"text": " ".join([*marks, "<｜tool▁calls▁end｜>", "</think>"])}, id="call_0")
    text = c.write(Message("assistant", "", (call,)))
    (read,) = c.read(text).calls
    assert (read.arguments, read.problem, read.repairs) == (call.arguments, "", ())
    assert all(text.count(stop) == text.endswith(stop) for stop in c.stop)


@pytest.mark.parametrize("name", PUBLISHED)
def test_too_many_calls_end_in_one_malformed_call(name: str) -> None:
    form, options, _ = PUBLISHED[name]
    c = codec(form, **options)
    calls = c.read(c.write(Message("assistant", "", (Call("f", {}),) * (MAX_CALLS + 5)))).calls
    assert len(calls) <= MAX_CALLS
    assert f"more than {MAX_CALLS} calls" in calls[-1].problem


def _native(call: str) -> str:
    """Return a template that writes calls as data in a form of its own."""
    head, tail = CALLS.split("{% for c in m['tool_calls'] or [] %}")
    return head + "{% for c in m['tool_calls'] or [] %}" + call + tail[tail.index("{% endfor %}") :]


FAMILIES = {
    "qwen3_coder": "<tool_call>\n<function={{ c.function.name }}>\n{% for k, v in c.function.arguments.items() %}"
    "<parameter={{ k }}>\n{{ v }}\n</parameter>\n{% endfor %}</function>\n</tool_call>",
    "glm4": "\n<tool_call>{{ c.function.name }}\n{% for k, v in c.function.arguments.items() %}"
    "<arg_key>{{ k }}</arg_key>\n<arg_value>{{ v }}</arg_value>\n{% endfor %}</tool_call>",
    "llama3": '{"name": "{{ c.function.name }}", "parameters": {{ c.function.arguments | tojson }}}',
    "mistral": '[TOOL_CALLS][{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}, '
    '"id": "{{ c.id if c.id | length == 9 else raise_exception(\'ids have 9 letters\') }}"}]',
    "mistral args": "[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}",
    "gemma function_gemma": "<start_function_call>call:{{ c.function.name }}{count:{{ c.function.arguments.count }},"
    "query:<escape>{{ c.function.arguments.query }}<escape>}<end_function_call>",
    "deepseek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{{ c.type }}<｜tool▁sep｜>{{ c.function.name }}\n```json\n"
    "{{ '' + c.function.arguments }}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "lfm2": "<|tool_call_start|>[{{ c.function.name }}(query='{{ c.function.arguments.query }}', "
    "count={{ c.function.arguments.count }})]<|tool_call_end|>",
    "hermes": '<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>',
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_the_codec_is_chosen_by_what_the_template_writes(family: str) -> None:
    name, _, form = family.partition(" ")
    chosen = spoken(Template(tokenizer_with(_native(FAMILIES[family])), codec("hermes")))
    assert chosen is not None
    assert chosen.name == name
    assert getattr(chosen, "form", form) == (form or getattr(codec(name), "form", ""))
    renderer = fitted(tokenizer_with(_native(FAMILIES[family])))
    assert renderer.codec == chosen


def test_a_template_without_calls_of_its_own_speaks_hermes() -> None:
    assert spoken(Template(tokenizer_with(CHATML), codec("hermes"))) is None
    assert fitted(tokenizer_with(CHATML)).codec == codec("hermes")
