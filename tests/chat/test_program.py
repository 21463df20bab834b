"""Records of programs: what is read from a reply, and what a program leaves undefined."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrule.chat.program import (
    ProgramRecord,
    PseudoProgram,
    answer_of,
    call_of,
    leaf_stub,
    read_output,
    read_program,
    read_record,
    undefined_leaves,
)

BODY = "def f(x):\n    return {'answer': g(x)}"


def test_a_reply_is_cut_into_its_parts() -> None:
    reply = f"### Code\n{BODY}\n>>> f('a')\n### Output\n{{'answer': 'b'}}"
    assert read_program(reply) == PseudoProgram(BODY, "f")
    assert (call_of(reply), answer_of(reply)) == ("f('a')", "b")


def test_a_program_without_a_call_ends_at_the_output_or_with_the_text() -> None:
    assert read_program(f"{BODY}\n### Output\n{{}}") == PseudoProgram(BODY, "f")
    assert read_program("just words") == PseudoProgram("just words", "solve")
    assert call_of("just words") == ""


def test_outputs_are_literals() -> None:
    assert answer_of("### Output\n{'steps': ['c','a'], 'answer': 'ca'} and so on }") == "ca"
    assert answer_of("nope") is None
    assert answer_of("### Output\n{'answer': __import__('os').getcwd()} {'answer': 3}") == "3"
    assert read_output("{'text': 'a } in quotes, it\\'s', 'answer': {'x': 1}}x")["answer"] == {"x": 1}  # type: ignore[index]
    assert answer_of("### Output\n{'steps': 1}") is None
    assert answer_of("{'answer': 1}\n### Output\nnothing") is None


@given(st.text(alphabet="{}'\"\\#:a1, \n>", max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    assert read_output(text) is None or isinstance(read_output(text), dict)
    assert isinstance(read_program(text), PseudoProgram)


def test_records_come_back_as_they_were() -> None:
    record = ProgramRecord("Add.", "1 2", BODY, "f('1 2')", "{'answer': 3}")
    assert read_record(record.prompt + record.completion) == record
    assert record.prompt == "### Instruction\nAdd.\n### Input\n1 2\n"
    assert record.problem == ""
    assert read_record(ProgramRecord("Add.", "", "", "", "").prompt).problem == "no code, no call, no output"


def test_leaves_are_called_and_nowhere_defined() -> None:
    program = """
def solve(x, k):
    def local(y):
        return len(y)
    ending = identify_ending(x)
    return {'answer': str(apply_rule(k)) + local(ending)}
"""
    assert undefined_leaves(program) == ("apply_rule", "identify_ending")
    assert undefined_leaves("import math as m\nfrom os import path\nf = m.sin(1)\ng = lambda h: h(path(f))") == ()
    assert undefined_leaves("def solve(x):\n    return {'answer': x[::-1]}") == ()


def test_a_function_with_a_docstring_alone_is_a_leaf() -> None:
    program = 'def mood(text: str):\n    """Tell the mood."""\ndef solve(x):\n    return {"answer": mood(x)}'
    assert undefined_leaves(program) == ("mood",)
    assert leaf_stub(program, "mood") == 'def mood(text: str):\n    """Tell the mood."""'
    assert leaf_stub(program, "solve") == ""


def test_text_that_is_no_python_is_refused() -> None:
    with pytest.raises(ValueError, match="the program is no Python"):
        undefined_leaves("def (")
