"""Makers, critics and curators: what they are shown, what their replies are read as, and how a repair goes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ferrule.agents.forge import categories, declared, make_tool, opinion, read_proposal
from ferrule.core.flows import Ask
from ferrule.core.records import Message, Reply, Task, plain_text
from ferrule.evaluate.forged import by_class, examples_of, forge_tools, shelf_file
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.tools.forge import Proposal, agreed, examine
from ferrule.tools.forge_shelf import Shelf, promoted
from ferrule.tools.forge_trial import Trial
from ferrule.worlds.session import Toolbox

TASKS = [
    Task(f"double/{n}", f"What is twice {n}?", str(2 * n), meta={"category": "twice", "arguments": {"n": n}})
    for n in range(1, 8)
]
RIGHT = 'def double(n: int) -> str:\n    """Return twice a number, as text."""\n    return str(2 * n)\n'
WRONG = RIGHT.replace("2 * n", "2 * min(n, 6)")
TESTS = 'assert double(4) == "8"\nassert double(5) == "10"\nassert double(0) == "0"\nassert double(-1) == "-2"\n'


def fenced(*codes: str) -> str:
    return "\n".join(f"```python\n{code}```" for code in codes)


def made(maker: Sequence[str], critic: Sequence[str], **how: object) -> tuple[object, list[Ask]]:
    """Play the flow and return what it led to, and what the maker was asked."""
    asked: list[Ask] = []
    replies = iter(maker)

    def speak(ask: Ask, sample: int) -> str:
        asked.append(ask)
        return next(replies)

    box: list[object] = []

    def agent(task: Task, session: object) -> object:
        box.append((yield from make_tool(TASKS[:3], TASKS[3:6], examples=examples_of(TASKS), **how)))  # type: ignore[arg-type]

    policies = {"maker": Scripted(speak), "critic": Scripted(list(critic))}
    (episode,) = drive(agent, [Task("t", "")], Toolbox(()), policies)  # type: ignore[arg-type]
    assert not episode.problem
    return box[0], asked


def test_a_wrong_function_is_made_right() -> None:
    """The seventh task, whose number is the first above 6, is shown to nobody: only the examination knows it."""
    forging, asked = made([fenced(WRONG), fenced(TESTS), fenced(RIGHT)], ["AGREE"])
    assert forging.promotable  # type: ignore[attr-defined]
    first, second = forging.attempts  # type: ignore[attr-defined]
    assert [finding.check for finding in first.findings] == ["examples"]
    assert second.proposal.source.strip() == RIGHT.strip()
    told = plain_text(asked[2].messages[-1])
    assert "double(n=7) gives '12' and should give '14'" in told
    assert all(f"What is twice {n}?" in plain_text(asked[0].messages[0]) for n in (1, 2, 3))
    assert all(f"What is twice {n}?" in plain_text(asked[1].messages[-1]) for n in (4, 5, 6))
    assert not any("What is twice 7?" in plain_text(message) for ask in asked for message in ask.messages)
    assert asked[2].messages[: len(asked[1].messages)] == asked[1].messages  # one dialogue that only grows


def test_a_tool_takes_no_other_tools_name() -> None:
    """The second class wants the same name for another function: the first tool stays, and the second is renamed."""
    other = [
        Task(f"halve/{n}", f"What is half of {n}?", str(n // 2), meta={"category": "half", "arguments": {"n": n}})
        for n in range(2, 10)
    ]
    half = RIGHT.replace("2 * n", "n // 2").replace("twice", "half of")
    tests = TESTS.replace('4) == "8"', '4) == "2"').replace('5) == "10"', '5) == "2"').replace('"-2"', '"-1"')
    told: list[str] = []

    def speak(ask: Ask, sample: int) -> str:
        told.append(plain_text(ask.messages[-1]))
        if "half" not in plain_text(ask.messages[0]):
            return fenced(RIGHT, TESTS)
        fresh = "another name" in told[-1]
        return (
            fenced(half.replace("double", "halve"), tests.replace("double", "halve")) if fresh else fenced(half, tests)
        )

    policies = {"maker": Scripted(speak), "critic": Scripted(["AGREE"] * 2)}
    run = forge_tools(by_class([*TASKS, *other]), policies)
    assert [row.tool for row in run.rows] == ["double", "halve"]
    assert "another tool is called 'double'" in told[-1]
    assert run.shelf.newest("double").proposal.source.strip() == RIGHT.strip()


def test_a_tool_of_the_same_class_passes_the_tests_of_the_one_before() -> None:
    shelf = promoted(
        Shelf(), agreed(examine(Proposal(RIGHT, TESTS + 'assert double(50) == "100"\n')), True), category="twice"
    )
    policies = {
        "maker": Scripted([fenced(RIGHT.replace("2 * n", "2 * min(n, 9)"), TESTS)]),
        "critic": Scripted(["AGREE"]),
    }
    run = forge_tools(by_class(TASKS), policies, shelf=shelf, rounds=1)
    assert "the tests of version 1" in run.rows[0].attempts[0]
    assert run.shelf == shelf


def test_tests_assert_something_for_every_task() -> None:
    forging, _ = made(
        [fenced(RIGHT, 'assert double(4) == "8"\nassert double(5) == "10"\n')], [], rounds=1, trial=Trial(asserts=1)
    )
    assert [finding.check for finding in forging.last.findings] == ["assertions"]  # type: ignore[attr-defined]


def test_a_critic_who_does_not_agree_stops_it() -> None:
    forging, _ = made([fenced(RIGHT, TESTS)] * 2, ["REJECT: say what n is", "perhaps"], rounds=2)
    assert not forging.promotable  # type: ignore[attr-defined]
    assert [one.feedback for one in forging.attempts] == [  # type: ignore[attr-defined]
        "critic: say what n is",
        "critic: perhaps",
    ]


def test_a_maker_that_says_nothing_is_told_so() -> None:
    forging, _ = made(["I cannot.", "No."], [], rounds=2)
    assert ["source" for _ in forging.attempts] == [  # type: ignore[attr-defined]
        one.findings[0].check
        for one in forging.attempts  # type: ignore[attr-defined]
    ]


def test_a_tool_that_failed_is_written_again() -> None:
    before = Proposal(WRONG, TESTS, name="double")
    forging, asked = made([fenced(RIGHT, TESTS)], ["agreed."], before=before, said="double(9) gave 12", earlier=[TESTS])
    assert forging.promotable  # type: ignore[attr-defined]
    assert "min(n, 6)" in plain_text(asked[0].messages[0])
    assert "double(9) gave 12" in plain_text(asked[0].messages[0])


def reply(text: str, **how: object) -> Reply:
    return Reply(Message("assistant", text), **how)  # type: ignore[arg-type]


def test_replies_are_read() -> None:
    assert read_proposal(reply("no code")) == ("", "")
    both = RIGHT + "\n\ndef test_it():\n    assert double(1) == '2'\n\nassert double(2) == '4'\n"
    source, tests = read_proposal(reply(fenced(both)))
    assert source.strip() == RIGHT.strip()
    assert tests.splitlines() == ["def test_it():", "    assert double(1) == '2'", "assert double(2) == '4'"]
    assert read_proposal(reply(fenced(both), finish="length")) == ("", "")
    said = declared("# effects: write\n# pre: args.n >= 0\n# post: result >= 0\n" + RIGHT)
    assert (said.effects, said.pre, said.post) == ("write", ("args.n >= 0",), ("result >= 0",))
    assert declared("# effects: magic\n").effects == "read"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("AGREE", (True, "")),
        ("**Agreed.**\nFine.", (True, "")),
        ("REJECT: wrong for 0", (False, "wrong for 0")),
        ("I agree that it is wrong", (False, "I agree that it is wrong")),
        ("disagree", (False, "disagree")),
        ("", (False, "the critic did not say AGREE")),
    ],
)
def test_opinions_are_read(text: str, wanted: tuple[bool, str]) -> None:
    assert opinion(text) == wanted


def test_a_curator_files_tools() -> None:
    shelf = promoted(Shelf(), agreed(examine(Proposal(RIGHT, TESTS)), True))
    box: list[dict[str, str]] = []

    def agent(task: Task, session: object) -> object:
        box.append((yield from categories(shelf)))

    drive(agent, [Task("t", "")], Toolbox(()), {"curator": Scripted(["- double: numbers\nother: things"])})  # type: ignore[arg-type]
    assert box == [{"double": "numbers"}]


def test_classes_of_tasks_get_a_tool_each() -> None:
    unlike = [Task(f"x/{n}", "?", "!", meta={"category": "riddles"}) for n in range(4)]
    maker = Scripted(lambda ask, sample: fenced(RIGHT, TESTS) if "twice" in plain_text(ask.messages[0]) else "?")
    policies = {"maker": maker, "critic": Scripted(lambda ask, sample: "AGREE")}
    run = forge_tools(by_class([*TASKS, *unlike]), policies, rounds=2)
    assert [(row.category, row.tool, len(row.attempts)) for row in run.rows] == [
        ("twice", "double", 1),
        ("riddles", "", 2),
    ]
    assert {role: took.asks for role, took in run.spent.items()} == {"critic": 1, "maker": 3}
    assert "def test_double" in shelf_file(run.shelf)
    with pytest.raises(ValueError, match="'twice' has 3 tasks"):
        forge_tools({"twice": TASKS[:3]}, policies)
