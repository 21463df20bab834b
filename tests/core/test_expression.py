"""The bounded evaluator: what would hang or fill the memory ends in an error at once, in all three of its grammars."""

from __future__ import annotations

import ast
import operator
import time
from dataclasses import replace

import pytest

from ferrule.core.expression import Budget, Grammar, NotAllowed, evaluate, parse
from ferrule.rewards.expression import compile_expression
from ferrule.rewards.expression import evaluate as judge
from ferrule.tools.calculator import calculate
from ferrule.tools.contracts_text import read

SMALL = Grammar(
    "sum",
    "numbers and +",
    operators={ast.Add: operator.add, ast.Mult: operator.mul},
    budget=Budget(characters=50, steps=7, size=10, bits=8, work=100),
)
TEXTS = replace(SMALL, kind="text", nodes=(ast.List,), budget=Budget(steps=1000, size=20, work=100))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 + 1 + 1 + 1 + 1", "too many steps"),  # 5 numbers and 4 sums are 9 nodes; 7 are allowed
        ("100 + 100 + 100", "number of the sum is too large"),  # 300 has 9 bits; 8 are allowed
        ("20 * 20", "number of the sum is too large"),  # 5 and 5 bits make 9 at least
    ],
)
def test_every_bound_ends_an_evaluation(text: str, said: str) -> None:
    with pytest.raises(OverflowError, match=said):
        evaluate(parse(text, SMALL), SMALL)


def test_what_stays_within_the_bounds_is_computed() -> None:
    assert evaluate(parse("15 * 17", SMALL), SMALL) == 255
    assert evaluate(parse("1 + 1 + 1 + 1", SMALL), SMALL) == 4


def test_size_counts_all_depths_and_work_counts_all_operations() -> None:
    assert evaluate(parse("'ab' * 9", TEXTS), TEXTS) == "ab" * 9
    with pytest.raises(OverflowError, match="value of the text is too large"):
        evaluate(parse("[['ab', 'cd'], ['ef', 'gh'], ['ij', 'kl']]", TEXTS), TEXTS)  # 6 texts of 3, 4 lists: 22
    with pytest.raises(OverflowError, match="too much work"):
        evaluate(parse(" + ".join(["'a'"] * 15), TEXTS), TEXTS)  # sums of 2, 3, ... characters, read and written


def test_an_input_may_be_larger_than_what_is_made() -> None:
    """20 characters may be made; what a name holds, 500 characters, comes on top."""
    named = replace(TEXTS, names=("answer",), nodes=(ast.Name,))
    assert evaluate(parse("answer + 'b'", named), named, {"answer": "a" * 500}) == "a" * 500 + "b"
    with pytest.raises(OverflowError):
        evaluate(parse("answer * 3", named), named, {"answer": "a" * 500})


def test_a_text_that_is_too_long_or_too_deep_is_not_read() -> None:
    with pytest.raises(ValueError, match="60 characters; the most is 50"):
        parse("1" * 60, SMALL)
    deep = replace(SMALL, budget=Budget())
    with pytest.raises(ValueError, match="nested"):
        parse("(" * 500 + "1" + ")" * 500, deep)
    with pytest.raises((ValueError, OverflowError), match="nested too deeply"):
        evaluate(parse("1" + " + 1" * 20_000, deep), deep)


@pytest.mark.parametrize(
    "text", ["a", "1 - 1", "f(1)", "[1]", "(1).real", "1 if 1 else 2", "lambda: 1", "b'x'", "1 < 2"]
)
def test_only_what_the_grammar_lists_may_stand_there(text: str) -> None:
    with pytest.raises(NotAllowed, match=r"sum .* it may hold numbers and \+"):
        parse(text, SMALL)


HANGS = (
    "'a' * 10**6 == ''.replace('', 'b' * 10**6)",
    "'a'" + ".replace('a', 'aaaaaaaaaaaaaaaa')" * 12 + " == ''",  # 16^12 characters
    "len(('a' * 50000).replace('', 'b' * 50000)) > 0",
    "sum([[0] * 90000] * 1000, []) == []",
    "sum([[1]] * 90000, []) == []",
    "[[[[[0] * 50] * 50] * 50] * 50] * 50 == 0",
    "9**9**9 > 1",
    "round(1, -10**8) == 0",
    "round(7 ** 100, 10**9) == 0",
    "[answer.replace('x', 'yyyyyyyyyyyyyyyy') for a in answer for b in answer] == 0",
    "all(answer.count(answer) for a in answer for b in answer for c in answer)",
    "str([[answer] * 300] * 300) == ''",
    "('a' * 99000).strip('b' * 98000 + 'a') == answer",
    "(10 ** 5000) * (10 ** 5000) > 0",
)


@pytest.mark.parametrize("text", HANGS)
def test_verifier_expressions_end_quickly(text: str) -> None:
    """Each would take gigabytes or hours, or is the start of a chain that does."""
    start = time.process_time()
    try:
        judge(compile_expression(text), {"answer": "x" * 1000, "x": 1})
    except (OverflowError, TypeError, ValueError):
        pass
    else:
        assert "strip" in text, "one of these alone is bearable"
    assert time.process_time() - start < 2


def test_a_doubling_by_nested_loops_ends() -> None:
    text = "x"
    for letter in "abcdefghijklmnopqrstuvwxyz":
        text = f"[[{letter}, {letter}] for {letter} in [{text}]][0]"  # 2^26 leaves in 26 lists
    with pytest.raises(OverflowError, match="too large"):
        judge(compile_expression(text), {"x": 1})


@pytest.mark.parametrize(
    "text", ["9**9**9", "2**5000", "1 * 10**1300", "round(1.5, 10**9)", "-" * 3000 + "1", "9" * 1999]
)
def test_the_calculator_ends_quickly(text: str) -> None:
    start = time.process_time()
    with pytest.raises(ValueError):
        calculate(text)
    assert time.process_time() - start < 1


def test_a_condition_past_its_budget_does_not_hold() -> None:
    facts = {"n": 10**3000}
    assert read("n > 1").holds({"facts": facts})
    assert not read("n * n * n > 1").holds({"facts": facts})  # 3 times 9966 bits; the most is 20000
    assert not read("not n * n * n > 1").holds({"facts": facts})
    with pytest.raises(ValueError, match="characters; the most"):
        read(f"n == '{'a' * 200_000}'")
