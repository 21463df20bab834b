"""Steps rewritten as code: what a refiner's reply says, what it is shown, and replies that are written in parts."""

from __future__ import annotations

from typing import Any

import pytest
from tests.toys import layout

from ferrule.agents.reviewed import Reviewed
from ferrule.agents.step_code import by_refiner, refined
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Task, plain_text
from ferrule.data.corrections import corrected_run
from ferrule.data.trees import tree_of
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode, dump, parse
from ferrule.tools.calculator import calculator
from ferrule.tools.tool import tool
from ferrule.worlds.session import Toolbox


@tool
def python(code: str) -> str:
    """Run code that prints a product."""
    return str(eval(code.removeprefix("print(").removesuffix(")")))


TASK = Task("t", "Three boxes of 12, two are lost. How many?", "34")
BOX = Toolbox((python, calculator))
FENCED = "Three boxes hold\n```python\nprint(3*12)\n```\nso many."


@pytest.mark.parametrize(
    ("said", "words", "code"),
    [
        (Message("assistant", FENCED), "Three boxes hold", "print(3*12)"),
        (Message("assistant", "```python\nprint(1)\n```\nand\n```python\nprint(2)\n```"), "", "print(1)"),
        (Message("assistant", "KEEP"), None, ""),
        (Message("assistant", "As before:\n```text\n36\n```"), None, ""),
        (Message("assistant", "so", (Call("python", {"code": "x"}),)), "so", "x"),  # read by the policy's own codec
    ],
)
def test_what_a_refiner_says(said: Message, words: str | None, code: str) -> None:
    better = refined(said)
    if words is None:
        assert better is None
    else:
        assert better is not None
        assert (plain_text(better), better.calls[0].arguments) == (words, {"code": code})


STEPS = ["We count the boxes. ", "Three of 12 are 36. ", "Two are lost: 34."]


def generator(request: Ask, sample: int) -> str:
    """Write the first two steps within one reply of 20 bytes each; after the result of the code, the answer."""
    if request.messages[-1].role == "tool":
        return f"That is {plain_text(request.messages[-1])} - 2 = 34"
    return "".join(STEPS)[len(request.begun) :]


def played(refine: Any, script: Any = generator, *, turns: int = 9, size: int = 20) -> tuple[Episode, list[str]]:
    shown: list[str] = []

    def refiner(request: Ask, sample: int) -> str:
        assert len(request.messages) == 1
        shown.append(plain_text(request.messages[0]).split("Step:\n")[1])
        return str(refine(shown[-1]))

    agent = Reviewed(by_refiner(), turns=turns, max_tokens=size, uncorrected=False, in_parts=True)
    roles = {"solver": Scripted(script, renderer=layout()), "refiner": Scripted(refiner)}
    (episode,) = drive(agent, [TASK], BOX, roles)
    assert not episode.problem
    assert not episode.drifted
    return episode, shown


def run_of(episode: Episode) -> list[tuple[str, str]]:
    run = corrected_run(tree_of(episode.of_role("solver"), lambda path: True))
    assert run is not None
    return [(message.role, plain_text(message)) for message in run.messages]


def test_a_step_within_a_reply_is_rewritten_and_its_result_read() -> None:
    """Each step is 20 bytes: the first is kept, the second becomes code, and what follows reads 36."""
    episode, shown = played(lambda step: FENCED if step.startswith("Three") else "KEEP")
    assert shown == [*STEPS[:2], "That is 36 - 2 = 34"]
    assert run_of(episode) == [
        ("user", TASK.prompt),
        ("assistant", "We count the boxes. Three boxes hold"),
        ("tool", "36"),
        ("assistant", "That is 36 - 2 = 34"),
    ]
    assert episode.trajectories[0].answer == "That is 36 - 2 = 34"
    second = episode.trajectories[0].turns[0]
    assert bytes(second.given[-20:]).decode() == STEPS[0]  # gone on from by its ids
    assert parse(dump(episode))[0] == episode


def test_what_is_not_rewritten_stays_one_reply() -> None:
    episode, shown = played(lambda step: "KEEP")
    assert shown == STEPS
    assert run_of(episode) == [("user", TASK.prompt), ("assistant", "".join(STEPS))]
    assert len(episode.trajectories[0].turns) == 1


def test_a_last_step_that_becomes_code_is_gone_on_from() -> None:
    episode, _ = played(lambda step: FENCED if step == "36" else "KEEP", lambda request, sample: (
        "34" if request.messages[-1].role == "tool" else "36"
    ))  # fmt: skip
    assert [text for _, text in run_of(episode)] == [TASK.prompt, "Three boxes hold", "36", "34"]


def test_calls_of_the_generator_itself_stay() -> None:
    call = Message("assistant", "so", (Call("calculator", {"expression": "3*12"}),))
    episode, shown = played(
        lambda step: "KEEP", lambda request, sample: "34" if len(request.messages) > 1 else call, size=200
    )
    assert shown == ["34"]
    assert [text for _, text in run_of(episode)] == [TASK.prompt, "so", "36", "34"]
    assert [call.name for call, _ in episode.trajectories[0].calls] == ["calculator"]


def test_parts_count_as_steps() -> None:
    """Two steps of 20 bytes are all that two turns allow, though both are one reply."""
    episode, shown = played(lambda step: "KEEP", turns=2)
    assert shown == STEPS[:2]
    assert (episode.trajectories[0].answer, episode.trajectories[0].finish) == (None, "turns")
