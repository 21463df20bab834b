import pytest

from ferrule.chat.codec import codec
from ferrule.core.records import Call, Message, Tool

F = codec("fence")


def test_a_block_is_a_call() -> None:
    read = F.read("Compute.\n```python\nprint(1)\n```")
    assert read.content == "Compute."
    assert read.calls == (Call("python", {"code": "print(1)"}, id="call_0", raw="```python\nprint(1)\n```"),)


def test_code_with_fences_is_written_in_a_longer_one() -> None:
    code = "x = '''\n```python\n1\n```\n'''"
    text = F.write(Message("assistant", "", (Call("python", {"code": code}),)))
    assert text.startswith("````python\n")
    assert F.read(text).calls[0].arguments == {"code": code}


@pytest.mark.parametrize(
    ("text", "code", "repairs"),
    [
        ("```python\nprint(1)", "print(1)", ("unfinished",)),
        ("```python", "", ("unfinished",)),
        ("```py\nprint(1)\n```", "print(1)", ("tag",)),
        ("```Python\nprint(1)\n```", "print(1)", ("tag",)),
        ("so: ```python\nprint(1)\n```", "print(1)", ("fence in line",)),
        ("```python\nprint(1)```", "print(1)", ("fence in line", "unfinished")),
        ("```python\n```", "", ()),
    ],
)
def test_repairs(text: str, code: str, repairs: tuple[str, ...]) -> None:
    (call,) = F.read(text).calls
    assert (call.arguments, call.repairs) == ({"code": code}, repairs)


def test_other_blocks_are_content() -> None:
    text = "```json\n```python\n1\n```\nthen"
    assert F.read(text).calls == ()
    assert F.read(text).content == text


def test_tag_tool_and_argument_can_be_chosen() -> None:
    sql = codec("fence", tag="sql", tool="query", argument="text")
    assert sql.read("```sql\nselect 1\n```").calls[0] == Call(
        "query", {"text": "select 1"}, id="call_0", raw="```sql\nselect 1\n```"
    )
    with pytest.raises(ValueError, match=r"Fence\.tag"):
        codec("fence", tag="a b\n")


def test_other_calls_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="pick another codec"):
        F.write(Message("assistant", "", (Call("search", {"query": "x"}),)))


def test_results_inline_or_not() -> None:
    assert F.show(Message("tool", "1")) == "```output\n1\n```"
    inline = codec("fence", inline=True)
    assert inline.write(Message("assistant", "", (Call("python", {"code": "1"}),))) == "```python\n1\n```\n"
    assert inline.show(Message("tool", "a\n```\nb")) == "````output\na\n```\nb\n````\n"


def test_description_names_the_other_tools_as_functions() -> None:
    find = Tool("find", "Find.", {"properties": {"x": {"type": "string"}}, "required": ["x"]}, print)
    python = Tool("python", "Run.", {"properties": {"code": {"type": "string"}}}, print)
    assert F.describe([python]) == "To run code, write:\n```python\n...\n```"
    assert F.describe([python, find]).endswith("In code you may call:\nfind(x: str): Find.")
