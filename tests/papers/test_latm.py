"""LATM: the worked examples of making, dispatching and cost, and the claim."""

from __future__ import annotations

import pytest

from ferrule.core.records import Call, Task
from ferrule.evaluate.evaluate import evaluate
from ferrule.papers import latm
from ferrule.papers.claims import latm_pocket
from ferrule.papers.claims.latm import STUDY, made, mixed
from ferrule.policies.scripted import Scripted
from ferrule.rollout.spent import Spent
from ferrule.studies.standins.tool_makers import DEFECTS, RIGHT, calling, making, sorting
from ferrule.tools.invoke import invoke
from ferrule.worlds.reasoning import Reasoning
from ferrule.worlds.session import Toolbox

FREE = [["08:00 - 09:00", "10:30 - 12:00"], ["08:30 - 09:00", "11:00 - 12:00"]]


def test_the_cost_of_a_tool() -> None:
    """Worked example 6: 4 strong calls make the tool; n questions cost 60 + n, or 15 n: 64 and 60 at 4, 65 and 75 at 5."""
    assert latm.break_even(60, 15, 1) == 5
    assert latm.cost({"maker": Spent(asks=4), "solver": Spent(asks=5)}, {"maker": 15.0, "solver": 1.0}) == 65.0
    with pytest.raises(ValueError, match="never pays"):
        latm.break_even(60, 1, 1)


def run(source: str, hours: float) -> object:
    space: dict[str, object] = {}
    exec(source, space)
    return space["schedule"](FREE, hours)  # type: ignore[operator]


def test_meetings() -> None:
    """Worked example 5, and that every defect of the stand-in is one."""
    assert run(RIGHT, 1.0) == ("11:00", "12:00")
    assert run(RIGHT, 1.5) is None
    tasks = Reasoning(classes=("scheduling",)).tasks("train", 60, levels=(2, 3))
    for name, change in DEFECTS.items():
        space: dict[str, object] = {}
        exec(RIGHT.replace(*change), space)
        wrong = 0
        for task in tasks:
            try:
                pair = space["schedule"](**task.meta["arguments"])  # type: ignore[operator]
                wrong += (" - ".join(pair) if pair else "No time slot works.") != task.answer
            except NameError:
                wrong += 1
        assert wrong >= 12, name  # a fifth and more


def test_tools_are_made_and_used() -> None:
    tasks = Reasoning(classes=("scheduling",)).tasks("train", 12, levels=(2, 3))
    policies = {"maker": Scripted(making(tasks, 0, right=1.0)), "solver": Scripted(calling(tasks, 0, slips=0.0))}
    tools = latm.made_tools({"scheduling": tasks[:6]}, policies, dispatch=False)
    assert {role: took.asks for role, took in tools.spent.items()} == {"maker": 3}  # proposal, tests, wrapping
    assert tools.user.tools["scheduling"].source == RIGHT
    evaluation = evaluate(tools.user, policies, Toolbox(()), tasks[6:])
    assert [row.answer for row in evaluation.rows] == [str(task.answer) for task in tasks[6:]]
    with pytest.raises(ValueError, match="2 tasks are too few"):
        latm.split(tasks[:2])


def test_a_wrong_tool_is_made_anew() -> None:
    """A maker that is never right makes nothing that twelve tests let pass: three dialogues of four asks each."""
    tasks = Reasoning(classes=("scheduling",)).tasks("train", 15, levels=(2, 3))
    policies = {"maker": Scripted(making(tasks, 0, right=0.0))}
    tools = latm.made_tools({"scheduling": tasks}, policies, makes=3, validation=12)
    assert not tools.user.tools["scheduling"].text
    assert tools.spent["maker"].asks == 12
    assert tools.user.known == {"scheduling": tasks[0].prompt}


def test_a_tool_is_made_when_a_class_is_new() -> None:
    """Two classes in turn: the first question of each is unknown, the second goes straight to its tool."""
    world = Reasoning(classes=("scheduling",))
    solved = world.tasks("train", 6, levels=(2, 3))
    tasks = world.tasks("test", 3, levels=(2, 3))
    everything = [*solved, *tasks]
    policies = {
        "maker": Scripted(making(everything, 0, right=1.0)),
        "solver": Scripted(calling(everything, 0, slips=0.0)),
        "dispatcher": Scripted(sorting(everything, 0, ["scheduling"], slips=0.0)),
    }
    asked: list[str] = []

    def examples(task: Task) -> tuple[str, list[Task]]:
        asked.append(task.id)
        return "scheduling", solved

    answers, tools = latm.served(tasks, policies, examples)
    assert answers == [str(task.answer) for task in tasks]
    assert asked == [tasks[0].id]
    assert {role: took.asks for role, took in tools.spent.items()} == {"dispatcher": 2, "maker": 3, "solver": 3}
    nothing = {**policies, "maker": Scripted(lambda ask, sample: "I cannot.")}
    answers, tools = latm.served(tasks, nothing, examples)
    assert answers == [None] * 3
    assert tools.spent["maker"].asks == 3  # a class that failed is not made again


def test_tests_decide_what_is_used() -> None:
    """The ablation: without tests a wrong source is used as it is."""
    numbers = [made(seed=seed, questions=3, verify=False)["cost"] for seed in range(2)]
    assert numbers == [15.0 + 3.0] * 2  # one ask of the maker, three of the user
    assert made(seed=0, questions=3, verify=True)["cost"] > 18.0


def test_unseen_classes_are_told_apart() -> None:
    assert mixed(seed=0, questions=6, slips=0.0) == {"precision": 1.0, "recall": 1.0}


def test_forged_tools_are_right_and_untested_ones_need_not_be() -> None:
    """Over eight draws of a maker that is right every second time on the average."""
    forged = [latm_pocket.made_tool(seed, tested=True) for seed in range(2)]
    tools = [latm_pocket.made_tool(seed, tested=False) for seed in range(8)]
    call = Call("sort_words", {"words": "pear fig apple"})
    assert {invoke(tool, call).text for tool in forged if tool} == {"apple fig pear"}
    right = [invoke(tool, call).text == "apple fig pear" for tool in tools if tool]
    assert 0 < sum(right) < len(right) == 8
    assert tools[0] is not None
    assert tools[0].terminal


def test_the_claim_names_what_decides() -> None:
    assert STUDY.paper == latm.PAPER.slug
    assert [condition.threshold for condition in STUDY.asks] == [0.1, 0.8, 0.0]
