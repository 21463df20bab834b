"""The same tasks with and without tools: sides, judges by rule and by a model, and the tables."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Task, plain_text
from ferrule.evaluate.evaluate import arms
from ferrule.evaluate.paired import Judges, by_role, contrasted, paired
from ferrule.policies.scripted import Scripted
from ferrule.rewards.derivation import stated
from ferrule.worlds.arithmetic import Arithmetic

WORLD = Arithmetic(tools=("calculator",))
TASKS = [
    Task(
        f"{a}", f"{a}", str(a + 1), WORLD.name, meta={"solution_steps": (f"{a} + 1 = {a + 1}",), "verifier": "numeric"}
    )
    for a in range(4)
]


def model(request: Ask, sample: int) -> str | Message:
    """Derive without tools, and be wrong from 2 on; with them call once, or twice for 3, and say the result alone."""
    asked, last = plain_text(request.messages[0]), request.messages[-1]
    value = int(asked)
    if not request.tools:
        return f"I add. {value} + 1 = {value + 1}. So {value + (1 if value < 2 else 5)}"
    calls = sum(m.role == "tool" for m in request.messages)
    if last.role == "tool" and calls > (value == 3):
        return plain_text(last)
    return Message("assistant", "", (Call("calculator", {"expression": f"{value} + 1"}, id=f"c{calls}"),))


def score(task: Task, steps: object) -> list[float | None]:
    return [0.9 if "=" in step else 0.2 for step in steps]  # type: ignore[attr-defined]


JUDGES = Judges(
    lambda task, first, second: float(len(first) > len(second)), stated, score, lambda task, steps, place: "logic"
)
POLICY, AGENT = Scripted(model), ToolLoop()


def test_paired_runs_measure_both_sides() -> None:
    both = paired(AGENT, POLICY, WORLD, TASKS, judges=JUDGES)
    data = json.loads(json.dumps(both.as_dict(edges=(1, 2))))
    without, using = data["sides"]["without tools"], data["sides"]["with tools"]
    assert (without["success"], using["success"], data["difference"]["difference"]) == (0.5, 1.0, 0.5)
    assert (without["missing"]["mean"], using["missing"]["mean"]) == (0.0, 1.0)
    # of "I add.", "a + 1 = b." and "So c" the middle one is right; a bare number is no step
    assert without["right_steps"]["pooled"] == pytest.approx(1 / 3)
    assert without["errors"] == {"logic": 8}
    assert "right_steps" not in using
    assert (without["words"], using["words"]) == (9.0, 0.0)  # 2 + 5 + 2 words
    assert (data["wins"]["first"], data["wins"]["gap"]) == (1.0, 1.0)
    # calls are 1, 1, 1, 2, so (1 + 1 + 1 + 1/2)/4; without calls (1 + 1 + 0 + 0)/4
    assert (without["efficiency"], using["efficiency"]) == (0.5, pytest.approx(0.875))
    # with tools: right everywhere, -1 where it was right without them, +1 where not; nobody has fewer calls than none
    assert (without["necessity"], using["necessity"]) == (0.0, 0.0)
    assert data["solvability"] == {"expansion": 0.5, "preservation": 0.5, "shrinkage": 0.0, "unsolved": 0.0}


def test_slices_by_calls_keep_tasks_that_are_hard_apart() -> None:
    data = paired(AGENT, POLICY, WORLD, TASKS, judges=JUDGES).as_dict(edges=(1, 2))["by_calls"]
    assert [data["all"][bucket]["count"] for bucket in ("0", "1", "2+")] == [0, 3, 1]
    assert data["all"]["1"]["success without"] == pytest.approx(2 / 3)
    assert data["all"]["0"]["success with"] is None
    assert data["solved without tools"]["2+"]["count"] == 0
    assert data["not solved without tools"]["2+"]["success without"] == 0.0
    assert data["all"]["2+"]["missing with"] == 1.0


def test_a_judge_that_is_a_model() -> None:
    """The judge picks the derivation in both orders; every reply counts as one of its asks."""

    def judge(request: Ask, sample: int) -> str:
        text = plain_text(request.messages[-1])
        if "Candidate 1" in text:
            return '{"better": "1"}' if text.index("I add") < text.index("Candidate 2") else '{"better": "2"}'
        if "counterpart" in text:
            return "covered" if "I add" in text else "missing"
        return "right"

    both = paired(AGENT, POLICY, WORLD, TASKS[:2], judges=by_role(), judge={"judge": Scripted(judge)})
    data = both.as_dict()
    assert [pair.better for pair in both.contrasts] == [1.0, 1.0]
    assert data["sides"]["without tools"]["missing"]["mean"] == 0.0
    assert data["sides"]["with tools"]["missing"]["mean"] == 1.0
    # per task two orders, a reference step of each side, and three own steps without tools
    assert data["spent"]["judge"]["asks"] == 2 * (2 + 2 + 3)


def test_a_judge_who_fails_leaves_things_unknown() -> None:
    def broken(task: Task, first: str, second: str) -> float:
        raise ValueError("no verdict")

    both = paired(AGENT, POLICY, WORLD, TASKS, judges=replace(JUDGES, better=broken))
    data = both.as_dict()
    assert data["problems"] == 4
    assert (data["wins"]["first"], data["wins"]["unknown"]) == (None, 4)
    assert data["sides"]["with tools"]["success"] == 1.0


def test_comparisons_that_nobody_can_read_are_counted() -> None:
    """The judge replies to every question and never says which is better; without one there are no wins at all."""
    judge = Scripted(lambda request, sample: "Both are fine.")
    data = paired(AGENT, POLICY, WORLD, TASKS, judges=Judges(by_role().better), judge={"judge": judge}).as_dict()
    assert (data["wins"]["tie"], data["wins"]["unknown"], data["problems"]) == (None, 4, 0)
    assert "wins" not in paired(AGENT, POLICY, WORLD, TASKS, judges=Judges(covers=stated)).as_dict()


def test_only_equal_tasks_are_paired() -> None:
    played = arms(AGENT, POLICY, WORLD, TASKS)
    other = arms(AGENT, POLICY, WORLD, TASKS[:2])
    with pytest.raises(ValueError, match="not of the same tasks and samples"):
        contrasted(played["without tools"], other["with tools"])
