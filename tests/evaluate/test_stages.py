"""Measures of the stages: the worked examples of paper 30, and where a run failed first."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ferrule.agents.gold import Gold
from ferrule.agents.react import ToolLoop
from ferrule.agents.stage_parts import integrated, listed, planned, written
from ferrule.agents.stages import Called, Iterative, Selected, StageRecord, Stages, Subtask
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Task, plain_text
from ferrule.evaluate.evaluate import evaluate
from ferrule.evaluate.ranking import complete, ndcg, precision, recall
from ferrule.evaluate.stages import argument_overlap, first_failure, overlap, profile, rouge_l, stage_profile, usage
from ferrule.policies.scripted import Scripted
from ferrule.tools.schema import violations
from ferrule.worlds.arithmetic import Arithmetic


def test_rankings() -> None:
    """Example 1: a,b,c,d,e with gold {c,e}. NDCG@3 is (1/log2 4) / (1 + 1/log2 3), @5 adds 1/log2 6."""
    ranked, gold = list("abcde"), {"c", "e"}
    ideal = 1 + 1 / math.log2(3)
    assert (recall(ranked, gold, 3), complete(ranked, gold, 3)) == (0.5, 0.0)
    assert precision(ranked, gold, 3) == pytest.approx(1 / 3)
    assert ndcg(ranked, gold, 3) == pytest.approx(0.5 / ideal) == pytest.approx(0.306574, abs=1e-6)
    assert (recall(ranked, gold, 5), complete(ranked, gold, 5)) == (1.0, 1.0)
    assert ndcg(ranked, gold, 5) == pytest.approx((0.5 + 1 / math.log2(6)) / ideal) == pytest.approx(0.543771, abs=1e-6)
    # Example 2: NDCG hides that one is missing.
    three, four = list("abc"), set("abcd")
    assert (recall(three, four, 3), precision(three, four, 3), ndcg(three, four, 3)) == (0.75, 1.0, 1.0)
    assert complete(three, four, 3) == 0.0


def test_what_a_call_breaks() -> None:
    """Example 3: city required, days an integer, unit C or F."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
        "required": ["city"],
    }
    assert violations({"days": 3}, schema) == {"city": "is missing"}
    assert violations({"city": "Rome", "days": "3"}, schema) == {"days": "should be int, not str"}
    assert violations({"city": "Rome", "unit": "K", "x": 1}, schema) == {
        "unit": 'should be one of "C", "F"',
        "x": "is unknown",
    }
    assert violations({"city": "Rome", "days": True}, schema) == {"days": "should be int, not bool"}
    assert violations({"city": "Rome", "days": 3}, schema) == {}


def test_arguments_usage_and_texts() -> None:
    """Examples 4 and 5."""
    assert argument_overlap({"city": "Rome", "days": 3}, {"city": "Rome", "days": 4}).f1 == 0.5
    assert argument_overlap({"a": 1}, {"a": True}).f1 == 0.0  # equal in Python, not in JSON
    assert argument_overlap({"a": [1, {"b": 2}]}, {"a": [1.0, {"b": 2.0}]}).f1 == 1.0  # one number in JSON
    assert argument_overlap({}, {}).f1 == 1.0
    assert overlap("aab", "abb").precision == pytest.approx(2 / 3)  # a and b once each: multisets
    told = usage([True, True, False, False, True], [True, False, False, True, True])
    assert (told.accuracy, told.precision, told.recall) == (0.6, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert math.isnan(usage([False], [True]).precision)
    assert rouge_l("the cat sat", "The cat sat down") == pytest.approx(6 / 7) == pytest.approx(0.857143, abs=1e-6)
    assert rouge_l("a b c", "c b a") == pytest.approx(1 / 3)
    assert (rouge_l("", ""), rouge_l("a", "")) == (1.0, 0.0)


PARTS = (Subtask(1, "Find the height"), Subtask(2, "Convert it", (1,)))
GOLD = Gold(
    PARTS, {1: ("height",), 2: ("feet",)}, {1: (Call("height", {"of": "A"}),), 2: (Call("feet", {"m": 1}),)}, "33"
)
RIGHT = StageRecord(
    Task("t", "p"),
    (Subtask(7, "find  the HEIGHT"), Subtask(8, "convert it")),
    (Selected(7, ("height", "x"), (2.0, 1.0), ("height",)), Selected(8, ("feet",), (1.0,), ("feet",))),
    (Called(7, "height", {"of": "A"}, "", "ok", "10"), Called(8, "feet", {"m": 1}, "", "ok", "33")),
    "33",
)


@pytest.mark.parametrize(
    ("record", "failed"),
    [
        (replace(RIGHT, subtasks=RIGHT.subtasks[:1]), "plan"),
        (replace(RIGHT, subtasks=()), "plan"),
        (replace(RIGHT, selections=(replace(RIGHT.selections[0], chosen=("x",)), RIGHT.selections[1])), "select"),
        (replace(RIGHT, calls=(replace(RIGHT.calls[0], status="error"), RIGHT.calls[1])), "call"),
        (replace(RIGHT, calls=(replace(RIGHT.calls[0], arguments={"of": "B"}), RIGHT.calls[1])), "call"),
        (replace(RIGHT, calls=(replace(RIGHT.calls[0], arguments={"of": "A", "z": 1}), RIGHT.calls[1])), "call"),
        (replace(RIGHT, response="34"), "respond"),
    ],
)
def test_the_first_stage_that_failed(record: StageRecord, failed: str) -> None:
    assert first_failure(record, GOLD, False) == failed
    assert first_failure(record, GOLD, True) == ""


def test_one_run_gives_the_measures_of_all_stages() -> None:
    wrong = replace(RIGHT, calls=(RIGHT.calls[0], replace(RIGHT.calls[1], arguments={"m": 2})), response="34 feet")
    idle = StageRecord(Task("t", "p"), response="none")
    measures = profile([RIGHT, wrong, idle], [GOLD, GOLD, Gold(answer="none")], [True, False, True], ks=(1, 2))
    assert (measures["usage_accuracy"], measures["plan_accuracy"], measures["pass_rate"]) == (
        1.0,
        1.0,
        pytest.approx(2 / 3),
    )
    assert (measures["fails_call"], measures["fails_respond"]) == (pytest.approx(1 / 3), 0.0)
    assert (measures["comp@1"], measures["precision@2"], measures["ndcg@1"]) == (1.0, 0.5, 1.0)
    assert (measures["argument_f1"], measures["conforms"], measures["executed"]) == (0.75, 1.0, 1.0)  # 1, 1, 1 and 0
    assert measures["exact"] == pytest.approx(2 / 3)
    assert measures["rouge_l"] == pytest.approx(2 / 3)  # "34 feet" shares no word with "33"
    assert "recall@1" not in profile([idle], [Gold()], [True])
    with pytest.raises(ValueError, match="one query at least"):
        usage([], [])


def test_reference_solutions_say_which_tools_and_calls_are_right_and_nothing_of_parts() -> None:
    gold = Gold.of_calls((Call("height", {"of": "A"}), Call("feet", {"m": 1})), "33")
    assert not gold.worded
    assert [first_failure(record, gold, False) for record in (RIGHT, replace(RIGHT, subtasks=()))] == [
        "respond",
        "plan",
    ]
    other = replace(RIGHT, selections=RIGHT.selections[:1])
    assert first_failure(other, gold, False) == "select"
    assert first_failure(replace(RIGHT, calls=RIGHT.calls[:1]), gold, False) == "call"
    # Of the two tools the first part ranks one at place 1, the second the other.
    assert profile([RIGHT], [gold], [True], ks=(1,))["comp@1"] == 1.0
    assert profile([other], [gold], [False], ks=(1,))["recall@1"] == 0.5


def test_an_evaluation_in_stages_has_a_profile_by_the_reference_solutions_of_its_world() -> None:
    world = Arithmetic(form="expression", tools=("calculator",))
    tasks = world.tasks("test", 4, levels=[1])

    def script(request: Ask, sample: int) -> str | Message:
        text = plain_text(request.messages[-1])
        if "Which parts" in text:
            return "[]" if "Done so far" in text else '[{"text": "compute it"}]'
        if "Which of these tools fit" in text:
            return '["calculator"]'
        expression = next(task.meta["expression"] for task in tasks if task.prompt in text)
        return Message("assistant", "", (Call("calculator", {"expression": expression}),)) if request.tools else "no"

    stages = Stages(planned(), listed(), written(), integrated())
    played = evaluate(Iterative(stages), Scripted(script), world, tasks)
    measures = stage_profile(played, world)
    assert (measures["comp@1"], measures["usage_accuracy"], measures["pass_rate"]) == (1.0, 1.0, 0.0)
    assert measures["fails_respond"] == 1.0
    assert stage_profile(evaluate(ToolLoop(), Scripted(lambda ask, sample: "no"), world, tasks), world) == {}
