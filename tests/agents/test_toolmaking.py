"""Makers, users and dispatchers of tools: how replies are read, and how a dialogue goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ferrule.agents.toolmaking import (
    UNKNOWN,
    ToolUser,
    WrappedTool,
    answer_variable,
    code_blocks,
    dispatched,
    make_wrapped,
    normalised,
)
from ferrule.core.flows import Ask
from ferrule.core.records import Task, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.worlds.session import Toolbox

TASKS = [Task(f"d/{n}", f"What is twice {n}?", str(2 * n)) for n in range(1, 7)]
SOURCE = "def double(n):\n    return 2 * n"
TESTS = "\n".join(f"ret = double({n})\nans = str(ret)\nassert ans == '{2 * n}'" for n in (4, 5, 6))
WRAP = f"```python\n{SOURCE}\n```\nQuestion: What is twice 4?\n```python\nret = double(4)\nans = str(ret)\n```"


def fenced(*codes: str) -> str:
    return "\n".join(f"```python\n{code}\n```" for code in codes)


def played(flow: Any, policies: dict[str, Any]) -> Any:
    box: list[Any] = []

    def agent(task: Task, session: object) -> Any:
        box.append((yield from flow))

    (episode,) = drive(agent, [Task("t", "")], Toolbox(()), policies)
    assert not episode.problem
    return box[0]


def made(replies: Sequence[str], **how: Any) -> tuple[WrappedTool, list[Ask]]:
    asked: list[Ask] = []
    left = iter(replies)

    def write(ask: Ask, sample: int) -> str:
        asked.append(ask)
        return next(left)

    return played(make_wrapped(TASKS[:3], TASKS[3:], **how), {"maker": Scripted(write)}), asked


def test_blocks_and_answers_are_read() -> None:
    """Worked examples 1 and 2 of the paper's code."""
    text = fenced("a = 1", "b = 2") + "\n```python c = 3```"
    assert code_blocks(text) == ["a = 1", "b = 2"]
    assert answer_variable("ret = f(1); ans = ret") == "ans"
    assert answer_variable("ans1 = 1\nans = 2") == "ans"
    assert answer_variable("ans = 1\nans1 = 2") == "ans1"
    assert answer_variable("x.ans = 1\nif ans == 2: pass") == ""


def test_values_become_answers() -> None:
    """Worked example 3."""
    options = "Which?\nOptions:\n(A) red apple\n(B) pear"
    assert normalised(2, options) == "(B)"
    assert normalised("red", options) == "(A)"
    assert normalised("(B)", options) == "(B)"
    assert normalised("B", options) == "(B)"
    assert normalised(("09:00", "10:00"), "When?") == "09:00 - 10:00"
    assert normalised(None, "When?") == "No time slot works."
    assert normalised("a b", "Sort") == "a b"
    assert normalised(7, "What is the least number?") == "7"  # published: "(G)", so right answers below 11 are wrong


def test_a_mended_function_and_mended_tests_are_wrapped() -> None:
    """Worked example 4: an error of the proposal, then ok; an error of the tests, then ok; then it is wrapped."""
    replies = [fenced("def double(n) return"), fenced(SOURCE), fenced(TESTS.replace("'8'", "'9'")), fenced(TESTS), WRAP]
    wrapped, asked = made(replies)
    assert wrapped == WrappedTool(SOURCE, WRAP, "", 5)
    assert "SyntaxError" in plain_text(asked[1].messages[-1])
    assert "AssertionError" in plain_text(asked[3].messages[-1])
    assert len(asked[4].messages) == 9  # one dialogue: four replies and five requests
    assert "What is twice 6?" not in plain_text(asked[0].messages[0])


def test_three_failures_of_the_tests_leave_no_tool() -> None:
    wrong = fenced(TESTS.replace("'8'", "'9'"))
    wrapped, asked = made([fenced(SOURCE), wrong, wrong, wrong])
    assert (wrapped.text, wrapped.asks, len(asked)) == ("", 4, 4)
    assert wrapped.problem.startswith("the tests fail")
    wrapped, _ = made(["nothing"] * 3)
    assert wrapped.problem == "no function could be run: the reply has no block of Python"
    assert made([fenced(SOURCE)], verify=False)[0].text == fenced(SOURCE)


def test_tests_that_are_never_called_do_not_count() -> None:
    body = "\n".join(f"    {line}" for line in TESTS.splitlines())
    wrapped, asked = made([fenced(SOURCE), *[fenced(f"def test():\n{body}")] * 3])
    assert "0 assertions are carried out; 3 are needed" in plain_text(asked[2].messages[-1])
    assert not wrapped.text


def test_leftovers_of_a_failed_function_are_gone() -> None:
    """The second proposal lacks the helper that the first, which failed, had defined."""
    first = fenced("def helper(n):\n    return 2 * n\n\nraise ValueError('no')")
    second = fenced("def double(n):\n    return helper(n)")
    wrapped, asked = made([first, second, *[fenced(TESTS)] * 3])
    assert "NameError: name 'helper' is not defined" in plain_text(asked[3].messages[-1])
    assert not wrapped.text


def answers(reply: str, tool: WrappedTool | None = None, **how: Any) -> list[str | None]:
    user = ToolUser({"twice": tool or WrappedTool(SOURCE, WRAP)}, **how)
    tasks = [Task("q/7", "What is twice 7?", "14", meta={"class": "twice"}), Task("q/x", "Who?", meta={"class": "x"})]
    policies = {
        "solver": Scripted(lambda ask, sample: reply),
        "dispatcher": Scripted(lambda ask, sample: "Task: twice"),
    }
    return [episode.trajectories[0].answer if episode.trajectories else None
            for episode in drive(user, tasks, Toolbox(()), policies)]  # fmt: skip


def test_the_user_writes_the_call() -> None:
    assert answers(fenced("ret = double(7)\nans = str(ret)")) == ["14", None]
    assert answers(fenced("ret = double(7)\nans = str(ret)", "ans = 'the second block does not count'"))[0] == "14"
    assert answers(fenced("ret = double(7)"))[0] is None
    assert answers(fenced("ans = double('a', 'b')"))[0] is None
    assert answers(fenced("ans = object()"))[0] is None
    assert answers(fenced("ans = double(7)"), known={"twice": "What is twice 1?"}) == ["14", "14"]
    assert answers("", WrappedTool(SOURCE, "", "the tests fail"))[0] is None


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("Task: sorting", "sorting"),
        ("It is\nTask: 'dates'.", "dates"),
        ("Task: cooking", UNKNOWN),
        ("sorting", UNKNOWN),
    ],
)
def test_dispatching(said: str, wanted: str) -> None:
    known = {"sorting": "Sort b a.", "dates": "When?"}
    asked: list[Ask] = []

    def say(ask: Ask, sample: int) -> str:
        asked.append(ask)
        return said

    assert played(dispatched(Task("q", "Sort d c."), known), {"dispatcher": Scripted(say)}) == wanted
    assert all(text in plain_text(asked[0].messages[0]) for text in ("Sort b a.", "When?", "Sort d c."))
