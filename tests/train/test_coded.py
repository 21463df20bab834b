"""Solutions that a generator and a refiner write: what is left of them, and the rows that are learned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.toys import layout

from ferrule.agents.reviewed import Reviewed
from ferrule.agents.step_code import by_refiner
from ferrule.core.flows import Ask
from ferrule.core.recipe import Drawn
from ferrule.core.records import Call, Message, Task, plain_text
from ferrule.policies.scripted import Scripted, encode
from ferrule.rollout.drive import drive
from ferrule.tools.tool import tool
from ferrule.train.coded import coded, fenced, solution_of
from ferrule.worlds.user import UserWorld


@tool
def python(code: str) -> str:
    """Run code that prints a product."""
    return str(eval(code.strip().splitlines()[-1].removeprefix("print(").removesuffix(")")))


LONG = "a = 1\nb = 2\nc = 3\nd = 4\ne = 5\n"
TASKS = tuple(
    Task(f"t{i}", f"What is {i} * 3?", str(3 * i), "user", meta={"level": level, "verifier": "numeric"})
    for i, level in ((2, 1), (3, 1), (4, 1), (5, 2))
)
WORLD = UserWorld("user", {"train": TASKS, "test": TASKS[:1]}, (python,))


class Speaking(Scripted):
    """A script whose texts can be laid out as rows."""

    def encode(self, text: str) -> tuple[int, ...]:
        return encode(text, layout().end)


def number(request: Ask) -> int:
    return int(plain_text(request.messages[0]).split()[2])


def generator(request: Ask, sample: int) -> str:
    """Say what is to be multiplied; after the result, the answer in a box."""
    if not request.tools:
        return "no idea"
    if request.messages[-1].role == "tool":
        return f"So it is \\boxed{{{plain_text(request.messages[-1])}}}"
    return f"We need {number(request)} times 3."


def refiner(request: Ask, sample: int) -> str:
    """Make code of a product: right for 2 to 4, and failing for 5."""
    words = plain_text(request.messages[0]).split("Step:\n")[1].split()
    if "times" not in words:
        return "KEEP"
    code = f"{LONG}print({words[2]}*3)" if words[2] != "5" else f"{LONG}print(1/0)"
    return f"We need this:\n```python\n{code}\n```"


def source(**settings: Any) -> Any:
    how: dict[str, Any] = {"refiner": Scripted(refiner), "tasks": 4, "levels": (1, 2), "temperature": 0.0}
    return coded(WORLD, **{**how, **settings})


def drawn(script: Any = generator, **settings: Any) -> list[str]:
    given = source(**settings)(Speaking(script, renderer=layout()), 0)
    assert isinstance(given, Drawn)
    assert given.sampled > 0
    return [bytes(i for i in row.ids if i < 256).decode() for row in given.items]


def test_rows_hold_the_code_its_result_and_the_answer() -> None:
    """Four questions; the code for 5 * 3 fails. What is learned is the rewritten step and the answer, not the result."""
    texts = drawn()
    assert len(texts) == 3
    assert all("times 3" not in text and "We need this:" in text for text in texts)
    row = source()(Speaking(generator, renderer=layout()), 0).items[0]
    learned = bytes(i for i, turn in zip(row.ids, row.turn, strict=True) if turn >= 0 and i < 256).decode()
    assert learned.startswith("We need this:")
    assert "boxed" in learned
    assert "What is" not in learned


def test_one_solution_per_question_and_kinds_evened_out() -> None:
    assert len(drawn(samples=3)) == 3
    assert len(drawn(most=2)) == 2  # all three are of level 1 with one call
    assert len(drawn(least_tokens=1)) == 3


@pytest.mark.parametrize(
    ("settings", "flaw"),
    [
        ({"least_tokens": 3000}, "failed call, too short"),
        ({"lines": 99, "share": 0.0}, "failed call, short code"),
        ({"reward": lambda task, paths: [replace(score, value=0.0) for score in _ones(paths)]}, "failed call, wrong"),
    ],
)
def test_what_is_left_out_is_named(settings: dict[str, Any], flaw: str) -> None:
    with pytest.raises(ValueError, match=f"none of 4 solutions to 4 questions is left to learn from .{flaw}"):
        drawn(**settings)


def _ones(paths: Any) -> list[Any]:
    from ferrule.core.records import Score

    return [Score(1.0) for _ in paths]


def test_answers_without_a_box_may_count() -> None:
    def plain(request: Ask, sample: int) -> str:
        return generator(request, sample).replace("\\boxed{", "").replace("}", "")

    with pytest.raises(ValueError, match="no answer"):
        drawn(plain)
    assert len(drawn(plain, box=False)) == 3


def test_questions_that_are_solved_without_tools_are_dropped() -> None:
    def knows(request: Ask, sample: int) -> str:
        return str(3 * number(request)) if not request.tools and number(request) < 4 else generator(request, sample)

    assert len(drawn(knows, tries=2)) == 1  # 4 is left; the code for 5 fails
    with pytest.raises(ValueError, match="solves the questions without tools"):
        drawn(lambda request, sample: str(3 * number(request)), tries=1)


def test_a_solution_knows_its_calls_and_its_text() -> None:
    agent = Reviewed(by_refiner(), max_tokens=512, uncorrected=False, in_parts=True)
    roles = {"solver": Scripted(generator, renderer=layout()), "refiner": Scripted(refiner)}
    good, _, _, bad = (solution_of(episode, WORLD) for episode in drive(agent, list(TASKS), WORLD, roles))
    assert good is not None
    assert bad is not None
    assert (good.passes, good.correct, bad.passes) == ((True,), True, (False,))
    assert fenced(good.conversation.messages) == (
        f"We need this:\n```python\n{LONG}print(2*3)\n```\n```output\n6\n```\nSo it is \\boxed{{6}}"
    )
    other = Message("assistant", "so", (Call("search", {"query": "x"}),))
    assert fenced([other]) == "so"
    (lost,) = drive(replace(agent, turns=1), [TASKS[0]], WORLD, roles)
    assert solution_of(lost, WORLD) is None
