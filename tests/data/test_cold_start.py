"""Rewritten solutions: executed again, verified, and dropped with a reason."""

from __future__ import annotations

from ferrule.core.records import Observation, Task
from ferrule.data.cold_start import cold_start, rewrite_problem

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
