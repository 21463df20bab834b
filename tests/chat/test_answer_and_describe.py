import pytest

from ferrule.chat.answer import boxed, final_answer
from ferrule.chat.describe import listing, signature, tool_schema
from ferrule.core.records import Tool


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" 42 ", "42"),
        ("<think>41?</think>\n42", "42"),
        ("41?</think>\n42", "42"),
        ("<answer>42</answer>\n<think>or <answer>41</answer>?</think>", "42"),
        ("<think>a</think>It is 4<think>Final Answer: 41</think>2", "It is 42"),
        ("[THINK]41[/THINK]42<think>Final Answer: 41", "42"),
        ("<think>The answer is 41", ""),
        ("so <answer>41</answer>, no: <answer> 42 </answer>.", "42"),
        ("Thought: x\nFinal Answer: 41\n**Final Answer:** 42", "42"),
        ('{"answer": 42}', "42"),
        ('{"thought": "t", "answer": "42"}', "42"),
        ('{"other": 1}', '{"other": 1}'),
        ("", ""),
    ],
)
def test_final_answer(text: str, answer: str) -> None:
    assert final_answer(text) == answer


PARAMETERS = {
    "type": "object",
    "properties": {
        "query": {"type": "string"},
        "top": {"type": "integer", "default": 3},
        "kind": {"enum": ["a", "b"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "near": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    },
    "required": ["query", "kind"],
}


def test_signature_is_one_terse_line() -> None:
    tool = Tool("search", "Find things.\nLong text.", PARAMETERS, print)
    assert signature(tool) == (
        'search(query: str, top: int = 3, kind: "a"|"b", tags?: list[str], near?: float|null): Find things.'
    )
    assert signature(Tool("now", "", {"type": "object", "properties": {}}, print)) == "now()"


def test_json_lines_hold_the_whole_schema() -> None:
    tool = Tool("search", "Find.", PARAMETERS, print)
    assert tool_schema(tool)["function"]["parameters"] == PARAMETERS
    assert listing([tool, tool], "json").count("\n") == 1
    with pytest.raises(ValueError, match="signature"):
        listing([tool], "signatur")


def test_boxed() -> None:
    assert boxed("\\boxed{2} ... \\boxed{3}") == "3"
    assert boxed("\\boxed{\\frac{1}{2}}") == "\\frac{1}{2}"
    assert boxed("\\boxed{1") is None
    assert boxed(None) is None
