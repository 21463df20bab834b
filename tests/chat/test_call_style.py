"""Tools listed as templates of calls: what a model copies from the listing is what the codec writes and reads."""

import dataclasses
import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ferrule.chat.codec import Codec, codec, codec_names, codec_type
from ferrule.chat.describe import LONGEST_PLAN, plan
from ferrule.core.records import Call, Message, Tool


def variants() -> list[Codec]:
    """Every codec in the style, with every combination of its boolean options."""
    built: list[Codec] = [codec("hermes", style="call", shape="tight")]
    for name in codec_names():
        switches = [f.name for f in dataclasses.fields(codec_type(name)) if f.init and isinstance(f.default, bool)]
        for values in itertools.product((False, True), repeat=len(switches)):
            options = dict(zip(switches, values, strict=True))
            if options.pop("known_only", False):  # such a codec is made for its tools and writes no other calls
                continue
            built.append(codec(name, style="call", **options))
    return built


every = pytest.mark.parametrize("c", variants(), ids=str)
PARAMETERS = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "What to look for. Any words."},
        "scale": {"enum": ["a", "b"]},
        "top": {"type": "integer", "default": 3},
        "near": {"anyOf": [{"type": "number"}, {"type": "null"}], "default": None},
        "tags": {"type": "array", "items": {"type": "integer"}},
        "at": {
            "type": "object",
            "properties": {"x": {"type": "integer"}, "on": {"type": "boolean"}},
            "required": ["x"],
        },
    },
    "required": ["query", "scale", "tags"],
}
FIND = Tool("find", "Find the id of a castle.\nLong text.", PARAMETERS, print)
JSON = (
    '{"query": str (What to look for), "scale": "a"|"b", "top": int = 3, "near": float?, "tags": [int], '
    '"at": {"x": int, "on": bool?}?}'
)
ONE = {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]}
NONE = {"type": "object", "properties": {}}

LISTED = {
    "hermes": 'Tools:\nFind the id of a castle\n<tool_call>\n{"name": "find", "arguments": ' + JSON + "}",
    "raw_json": (
        'Tools:\n{"thought": "Find the id of a castle", "name": "find", "arguments": ' + JSON + "}\n"
        'To answer: {"answer": "..."}'
    ),
    "react": (
        "Tools:\nThought: Find the id of a castle\nAction: find\nAction Input: " + JSON + "\n"
        "To answer:\nFinal Answer: ..."
    ),
    "tagged": (
        "Tools:\nFind the id of a castle\n<find><query>str (What to look for)</query><scale>a|b</scale>"
        '<top>int = 3</top><near>float?</near><tags>[int]</tags><at>{"x": int, "on": bool?}?</at></find>\n'
        "To answer: <answer>...</answer>"
    ),
    "in_stream": (
        'Tools:\nFind the id of a castle\n<tool_call>{"name": "find", "arguments": ' + JSON + "}\n"
        'To call a tool, write <tool_call>{"name": ..., "arguments": {...}}</tool_call>. Results come back in the text, '
        "and you go on from there."
    ),
    "llama3": 'Tools:\nFind the id of a castle\n{"name": "find", "parameters": ' + JSON + "}",
    "mistral": 'Tools:\nFind the id of a castle[TOOL_CALLS][{"name": "find", "arguments": ' + JSON + "}]",
    "deepseek": (
        "Tools:\nFind the id of a castle<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>find\n```json\n"
        f"{JSON}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    ),
    "harmony": (
        "Tools:\n<|channel|>commentary<|message|>Find the id of a castle<|end|><|start|>assistant to=functions.find"
        f"<|channel|>commentary json<|message|>{JSON}<|call|>"
    ),
    "gemma": (
        'Tools:\nFind the id of a castle<|tool_call>call:find{query:<|"|>str (What to look for)<|"|>,scale:"a"|"b",'
        'top:int = 3,near:float?,tags:[int],at:{"x": int, "on": bool?}?}<tool_call|>'
    ),
    "atem": (
        "Tools:\n to=user<|message|>Find the id of a castle<|eom|><|start|>assistant to=find<|message|><atem:function_calls>\n"
        '<atem:invoke name="find">\n<atem:parameter name="query">str (What to look for)</atem:parameter>\n'
        '<atem:parameter name="scale">a|b</atem:parameter>\n<atem:parameter name="top">int = 3</atem:parameter>\n'
        '<atem:parameter name="near">float?</atem:parameter>\n<atem:parameter name="tags">[int]</atem:parameter>\n'
        '<atem:parameter name="at">{"x": int, "on": bool?}?</atem:parameter>\n</atem:invoke>\n</atem:function_calls>'
    ),
    "lfm2": (
        'Tools:\nFind the id of a castle<|tool_call_start|>[find(query=\'str (What to look for)\', scale="a"|"b", '
        'top=int = 3, near=float?, tags=[int], at={"x": int, "on": bool?}?)]<|tool_call_end|>'
    ),
    "qwen3_coder": (
        "Tools:\nFind the id of a castle\n<tool_call>\n<function=find>\n<parameter=query>\nstr (What to look for)\n"
        "</parameter>\n<parameter=scale>\na|b\n</parameter>\n<parameter=top>\nint = 3\n</parameter>\n"
        "<parameter=near>\nfloat?\n</parameter>\n<parameter=tags>\n[int]\n</parameter>\n<parameter=at>\n"
        '{"x": int, "on": bool?}?\n</parameter>\n</function>\n</tool_call>'
    ),
    "glm4": (
        "Tools:\nFind the id of a castle\n<tool_call>find\n<arg_key>query</arg_key>\n"
        "<arg_value>str (What to look for)</arg_value>\n<arg_key>scale</arg_key>\n<arg_value>a|b</arg_value>\n"
        "<arg_key>top</arg_key>\n<arg_value>int = 3</arg_value>\n<arg_key>near</arg_key>\n"
        "<arg_value>float?</arg_value>\n<arg_key>tags</arg_key>\n<arg_value>[int]</arg_value>\n"
        '<arg_key>at</arg_key>\n<arg_value>{"x": int, "on": bool?}?</arg_value>\n</tool_call>'
    ),
    "fence": (
        "Tools:\nFind the id of a castle\n```python\n"
        'print(find(query=str (What to look for), scale="a"|"b", top=int = 3, near=float?, tags=[int], '
        'at={"x": int, "on": bool?}?))\n```'
    ),
}


@pytest.mark.parametrize("name", codec_names())
def test_a_tool_is_listed_as_its_call(name: str) -> None:
    assert codec(name, style="call").describe([FIND]) == LISTED[name]


def test_tight_calls_follow_their_plan_without_a_gap() -> None:
    text = codec("hermes", style="call", shape="tight").describe([Tool("now", "Tell the time.", NONE, print)])
    assert text == 'Tools:\nTell the time<tool_call>{"name": "now", "arguments": {}}'


PIECES = ["<tool_call>", "</tool_call>", "```", "`", "\n", "Action: f", "Action Input: {}", "Final Answer: 1",
          "Thought: ", "Observation:", "<find>", "</find>", "<answer>", "<think>", "</think>", '{"name": "x"}', "[1]", " ",
          "<|end|>", '"', "\\", ".", "é", "Find a castle"]  # fmt: skip
descriptions = st.lists(st.sampled_from(PIECES) | st.text(st.characters(exclude_categories=("Cs", "Co")), max_size=6),
                        max_size=8).map("".join)  # fmt: skip
names = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda n: n not in ("think", "result", "answer", "and", "as", "if", "in", "is", "or", "not", "def", "for", "del")
)


def called(c: Codec, name: str, arguments: dict[str, str]) -> Call:
    """A call as the codec carries it: the fence codec carries code."""
    if c.name != "fence":
        return Call(name, arguments, id="call_0")
    code = f"print({name}({', '.join(f'{k}={v}' for k, v in arguments.items())}))"
    return Call("python", {"code": code}, id="call_0")


@every
@settings(max_examples=80, deadline=None)
@given(name=names, first=names, description=descriptions)
def test_the_listing_up_to_the_arguments_is_what_is_written(c: Codec, name: str, first: str, description: str) -> None:
    schema = {"type": "object", "properties": {first: {"type": "string"}}, "required": [first]}
    tool = Tool(name, description, schema, print)
    call = called(c, name, {first: "QQQ"})
    written = c.write(Message("assistant", plan(tool), (call,)))
    before = written[: written.index("QQQ")].removesuffix('"')
    assert name in before
    listed = c.describe([tool])
    assert listed.startswith("Tools:\n" + before)
    assert listed.removeprefix("Tools:\n" + before).startswith(("str", f"{first}: str"))


@every
@settings(max_examples=80, deadline=None)
@given(description=descriptions)
@example(description='{"name": "x"}')
@example(description="[{ ]")
def test_a_plan_is_read_back_as_content_before_the_call(c: Codec, description: str) -> None:
    """No description can begin a call of its own, end one, or pass for thinking."""
    content = plan(Tool("find", description, NONE, print))
    assert len(content) <= LONGEST_PLAN
    assert "\n" not in content
    assert "<|" not in content
    call = called(c, "find", {"query": "'x'"})
    read = c.read(c.write(Message("assistant", content, (call,))))
    assert read.content == content
    assert [dataclasses.replace(one, raw="") for one in read.calls] == [call]


def test_a_plan_is_the_first_line_cut_at_a_word() -> None:
    def of(text: str) -> str:
        return plan(Tool("f", text, NONE, print))

    assert of("  Find a castle.\nMore.") == "Find a castle"
    assert of("") == ""
    assert of("word " * 40) == ("word " * 20).strip()  # 20 words and 19 spaces are 99 characters, one more is 104
    assert of("x" * 120) == "x" * LONGEST_PLAN
    assert of("See <tool_call> and ```python") == "See < tool_call> and ` ``python"


def test_odd_tools_are_listed_too() -> None:
    odd = Tool("get-it", "Get a <b>thing</b>.", {"type": "object", "properties": {"from": {"type": "string"}}}, print)
    assert codec("fence", style="call").describe([odd]) == "Tools:\nget-it(from?: str): Get a < b>thing< /b>"
    assert '"get-it", "arguments": {"from": str?}' in codec("hermes", style="call").describe([odd])
    assert "answer(): Say it\n" in codec("tagged", style="call").describe([Tool("answer", "Say it.", NONE, print)])
    python = Tool("python", "Run code.", {"type": "object", "properties": {"code": {"type": "string"}}}, print)
    assert codec("fence", style="call").describe([python]) == "Tools:\nRun code\n```python\n...\n```"
    calculator = Tool("calculator", "Compute.", ONE, print)
    assert "<calculator>expression: str</calculator>" in codec("tagged", style="call").describe([calculator])


def test_types_inside_types_and_forged_values() -> None:
    point = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    properties = {
        "path": {"type": "array", "items": {"$ref": "#/$defs/Point"}},
        "free": {"type": "object"},
        "any": {},
        "mark": {"enum": ["</tool_call>", 1]},
        "either": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    }
    schema = {"type": "object", "properties": properties, "required": list(properties), "$defs": {"Point": point}}
    text = codec("hermes", style="call").describe([Tool("draw", "", schema, print)])
    assert text.endswith(
        '{"path": [{"x": int}], "free": dict, "any": any, "mark": "<\\/tool_call>"|1, "either": str|[str]}}'
    )


def test_a_style_may_follow_the_name() -> None:
    assert codec("react:call", inline=False) == codec("react", style="call", inline=False)
    with pytest.raises(ValueError, match="did you mean 'call'"):
        codec("hermes:cal")
    with pytest.raises(TypeError, match="given twice"):
        codec("hermes:call", style="json")
