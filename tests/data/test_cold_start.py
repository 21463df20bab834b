"""Rewritten solutions: executed again, verified, and dropped with a reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ferrule.core.records import Call, Message, Observation, Task
from ferrule.data.cold_start import Candidate, candidate_problem, cold_start, rerun, rewrite_problem, screened

TEXT = (
    "Let me compute.\n<code>\n```python\nprint(6*7)\n```\n</code>\n<interpreter>\n42\n</interpreter>\n\n"
    "So it is 42.\n<answer>\n\\boxed{42}\n</answer>"
)
TASK = Task("t", "How much is 6 times 7?", answer="42")


def run(code: str) -> Observation:
    """A stand-in interpreter for two scripts."""
    if code == "print(6*7)":
        return Observation("42\n")
    return Observation(f"Traceback (most recent call last):\n  ...\nNameError: name '{code}' is not defined", "error")


def test_rewrites_are_executed_again() -> None:
    assert rewrite_problem(TASK, TEXT, run) == ""
    assert rewrite_problem(TASK, TEXT.replace("42\n</inter", "43\n</inter"), run).startswith("result:")
    assert rewrite_problem(TASK, TEXT.replace("boxed{42}", "boxed{41}"), run).startswith("answer:")
    assert rewrite_problem(TASK, "It is \\boxed{42}", run) == "format: no code block"
    assert rewrite_problem(TASK, "<code>", run).startswith("format:")


def test_cold_start_keeps_what_passes_and_says_why_the_rest_does_not() -> None:
    texts = {"good": TEXT, "bad": TEXT.replace("print(6*7)", "y")}
    checked = cold_start([(TASK, "good"), (TASK, "bad")], lambda task, solution: texts[solution], run)
    assert [len(messages) for _, messages in checked.kept] == [4]
    assert checked.kept[0][1][0].content == TASK.prompt
    assert "NameError" in checked.dropped[0][1]


def trace(*scripts: str, solved: int = 3, **call: Any) -> Candidate:
    turns = [Message("assistant", "I compute.", calls=(Call("python", {"code": code}, **call),)) for code in scripts]
    return Candidate(TASK, (Message("user", "?"), *turns, Message("assistant", "42")), solved)


def test_code_of_a_trace_is_run_again_in_one_interpreter() -> None:
    """Variables are kept from script to script, and a trace ends with its first script that fails."""
    assert candidate_problem(trace("x = 6", "print(x * 7)")) == ""
    problem = candidate_problem(trace("x = 6", "print(y)", "print(x)"))
    assert problem == "code: 'print(y)' fails with \"NameError: name 'y' is not defined\""
    assert [o.status for o in rerun(["1 / 0", "print(1)"])] == ["error"]


def test_calls_whose_arguments_have_no_names_cannot_be_read() -> None:
    odd: Any = ["code"]
    call = Message("assistant", calls=(Call("python", odd),))
    assert candidate_problem(Candidate(TASK, (call,), 0)) == "call: one could not be read"


def test_tasks_that_need_no_tool_are_dropped() -> None:
    """Solved 8 of 8 times without tools is easy, 7 of 8 is not."""
    assert candidate_problem(trace(solved=8)) == "easy: solved 8 of 8 times without tools"
    assert candidate_problem(trace(solved=7)) == ""
    with pytest.raises(ValueError, match="9 of 8"):
        trace(solved=9)


@pytest.mark.parametrize(
    ("scores", "problem"),
    [
        ({"relevance": 0.9, "coherence": 0.7, "reason": 1.0}, ""),
        ({"relevance": 0.9, "coherence": 0.6, "reason": 0.2}, "judge: coherence is 0.6, reason is 0.2"),
        ({"relevance": math.nan}, "judge: relevance is nan"),
        ({"relevance": 7.0}, "judge: relevance is 7"),
        ({}, "judge: no verdict"),
    ],
)
def test_a_judge_must_say_that_a_trace_is_good(scores: Mapping[str, float], problem: str) -> None:
    assert candidate_problem(trace(), judge=lambda task, messages: scores) == problem


def test_traces_are_screened_in_the_order_of_the_paper() -> None:
    """A trace that fails twice is dropped for its code; the judge is asked about the last one alone."""
    asked: list[str] = []

    def judge(task: Task, messages: Sequence[Message]) -> dict[str, float]:
        asked.append(str(messages[-1].content))
        return {"relevance": 1.0}

    def failing(scripts: Sequence[str]) -> list[Observation]:
        return [Observation("", "timeout") if code == "slow" else Observation("1") for code in scripts]

    candidates = [trace("slow", solved=8), trace("fast", solved=8), trace("fast", problem="no JSON"), trace("fast")]
    checked = screened(candidates, rerun=failing, judge=judge)
    assert [reason.partition(":")[0] for _, reason in checked.dropped] == ["code", "easy", "call"]
    assert (checked.kept, asked) == (((TASK, candidates[-1].messages),), ["42"])
    assert candidate_problem(trace("a", "b"), rerun=lambda scripts: []) == "code: 2 of 2 scripts did not run"
