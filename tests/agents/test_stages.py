"""Agents in stages: their record, plans made at once or step by step, stages replaced by the right ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from ferrule.agents.gold import Gold, oracles
from ferrule.agents.named import agent
from ferrule.agents.stage_parts import inserted, integrated, listed, planned, ranked, written
from ferrule.agents.stages import Iterative, OneStep, Ranking, StageRecord, Stages, Subtask, record_of, replaced
from ferrule.core.flows import Ask, Session
from ferrule.core.records import Call, Message, Observation, Task, Tool, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode, dump, parse
from ferrule.worlds.session import ToolSession

PARTS = (Subtask(1, "find the height"), Subtask(2, "convert it", (1,)))
GOLD = Gold(
    PARTS,
    {1: ("height",), 2: ("feet",)},
    {1: (Call("height", {"of": "A"}),), 2: (Call("feet", {"metres": 10}),)},
    "33",
)


@dataclass(frozen=True)
class Towers:
    """Two tools; ``height`` fails as often as it is told."""

    failures: int = 0
    name: str = "towers"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1,)) -> list[Task]:
        return [Task("t", "How many feet is A high?", "33", self.name)][:count]

    def start(self, task: Task, seed: int = 0) -> Session:
        left = [self.failures]

        def height(of: str) -> Any:
            if left[0]:
                left[0] -= 1
                return Observation("busy, try again", "error")
            return 10

        def schema(name: str, kind: str) -> dict[str, Any]:
            return {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}

        tools = (
            Tool("height", "Height of a tower in metres.", schema("of", "string"), height, effects="write"),
            Tool("feet", "Convert metres to feet.", schema("metres", "number"), lambda metres: round(metres * 3.28)),
        )
        return ToolSession(task, lambda state: tools)


def _played(agent: Any, script: Any = ("33",), world: Towers | None = None) -> Episode:
    world = world or Towers()
    policy = Scripted(list(script) if isinstance(script, tuple) else script)
    (episode,) = drive(agent, world.tasks("train", 1), world, policy)
    assert not episode.problem, episode.problem
    return episode


RIGHT = oracles(lambda task: GOLD)
ANSWERING = Stages(RIGHT.plan, RIGHT.select, RIGHT.call, integrated())


@pytest.mark.parametrize("agent", [OneStep(ANSWERING), Iterative(ANSWERING)])
def test_a_run_in_stages_leaves_its_record(agent: Any) -> None:
    episode = _played(agent)
    (trajectory,) = episode.trajectories
    assert trajectory.answer == "33"
    record = record_of(trajectory)
    assert record is not None
    assert [(part.id, part.text) for part in record.subtasks] == [(1, "find the height"), (2, "convert it")]
    assert [each.chosen for each in record.selections] == [("height",), ("feet",)]
    assert [(each.name, each.status, each.text, each.problem) for each in record.calls] == [
        ("height", "ok", "10", ""),
        ("feet", "ok", "33", ""),
    ]
    assert record.response == "33"
    assert set(record.as_dict()) == {"query", "needs_tool", "subtasks", "selection", "calls", "response"}
    (again, _) = parse(dump(episode))
    assert record_of(again.trajectories[0]) == record
    assert "Done so far:\n- find the height: height gave '10'" in plain_text(trajectory.turns[0].messages[0])


def test_plans_that_go_on_from_what_came_back_repair_a_failure_and_those_made_at_once_do_not() -> None:
    """A tool that fails once: the loop calls it again, the plan that was made at once has gone on."""
    once = record_of(_played(OneStep(ANSWERING), world=Towers(1)).trajectories[0])
    loop = record_of(_played(Iterative(ANSWERING), world=Towers(1)).trajectories[0])
    assert once is not None
    assert loop is not None
    assert [(each.name, each.status) for each in once.calls] == [("height", "error"), ("feet", "ok")]
    assert [(each.name, each.status) for each in loop.calls] == [("height", "error"), ("height", "ok"), ("feet", "ok")]
    none = record_of(_played(Iterative(ANSWERING, retries=0, steps=1), world=Towers(1)).trajectories[0])
    assert none is not None
    assert [each.status for each in none.calls] == ["error"]


def test_a_stage_is_replaced_by_the_right_one() -> None:
    def wrong(part: Subtask, record: StageRecord, tools: tuple[Tool, ...]) -> Ranking:
        return (("feet", 1.0),)

    bad = Stages(RIGHT.plan, wrong, lambda part, record, tools: [Call(tools[0].name, {"of": "A"})], integrated())
    record = record_of(_played(OneStep(bad)).trajectories[0])
    assert record is not None
    assert record.calls[0].problem == "metres: is missing; of: is unknown"
    assert record.calls[0].status == "malformed"
    mended = replaced(bad, "select", RIGHT)
    assert mended.call is bad.call
    assert mended.select is RIGHT.select
    with pytest.raises(ValueError, match="unknown stage 'selects'; did you mean 'select'"):
        replaced(bad, "selects", RIGHT)


def test_no_part_means_no_tool_and_scripts_alone_answer_without_a_record() -> None:
    idle = Stages(lambda record, tools: (), RIGHT.select, RIGHT.call, integrated())
    for played in (OneStep(idle), Iterative(idle)):
        record = record_of(_played(played).trajectories[0])
        assert record is not None
        assert not record.needs_tool
        assert record.calls == ()
    (trajectory,) = _played(OneStep(RIGHT)).trajectories
    assert (trajectory.answer, record_of(trajectory)) == ("33", None)


def test_parts_wait_for_what_they_need_and_circles_end() -> None:
    backwards = Gold((PARTS[1], PARTS[0]), GOLD.tools, GOLD.calls, "33")
    stages = Stages(lambda record, tools: backwards.subtasks, RIGHT.select, RIGHT.call, integrated())
    record = record_of(_played(OneStep(stages)).trajectories[0])
    assert record is not None
    assert [each.name for each in record.calls] == ["height", "feet"]
    circle = (Subtask(1, "find the height", (2,)), Subtask(2, "convert it", (1,)))
    around = Stages(lambda record, tools: circle, RIGHT.select, RIGHT.call, integrated())
    record = record_of(_played(OneStep(around)).trajectories[0])
    assert record is not None
    assert [each.name for each in record.calls] == ["height", "feet"]


def test_a_model_plays_all_four_stages() -> None:
    def script(request: Ask, sample: int) -> str | Message:
        text = plain_text(request.messages[-1])
        if "Which parts" in text:
            assert "height(of: str): Height of a tower in metres." in text
            if "feet gave" in text:
                return "All done: []"
            if "height gave" in text:
                return '[{"id": "b", "text": "convert it to feet", "after": ["x"]}]'
            return 'First [1]? No: [{"id": "a", "text": "find the height"}, {"id": "b", "text": "convert it", "after": ["a"]}]'
        if "Which of these tools fit" in text:
            return '["feet", "metre"]' if "convert" in text else '["height", "feet"]'
        if "Do only this part" in text:
            name = request.tools[0].name
            return Message("assistant", "", (Call(name, {"metres": 10} if name == "feet" else {"of": "A"}),))
        return "33"

    episode = _played(agent("stages:steps=4"), script)
    record = record_of(episode.trajectories[0])
    assert record is not None
    assert [part.text for part in record.subtasks] == ["find the height", "convert it to feet"]
    assert [each.scores for each in record.selections] == [(1.0,), (1.0,)]
    assert (record.response, len(episode.trajectories)) == ("33", 1)
    # A plan, a choice and a call per part, the plan that ends it, and the answer.
    assert len(episode.trajectories[0].turns) == 3 + 3 + 1 + 1


def test_plans_that_cannot_be_read_are_the_whole_task_and_only_at_first() -> None:
    part = StageRecord(Task("t", "Do it."))

    def asked(record: StageRecord, reply: str) -> Any:
        flow: Any = planned()(record, ())
        next(flow)
        try:
            flow.send((type("R", (), {"message": Message("assistant", reply)})(),))
        except StopIteration as stop:
            return stop.value
        raise AssertionError("the plan asks once")

    assert asked(part, "no list") == (Subtask(1, "Do it."),)
    assert asked(part, "[]") == ()
    assert asked(part, '[{"text": "a"}, {"x": 1}, "b", {"text": " "}]') == (Subtask(1, "a"),)


def test_tools_are_ranked_by_retrieval_and_results_put_into_a_text() -> None:
    tools = Towers().start(Task("t", "p")).tools
    select = ranked()
    assert [name for name, _ in select(Subtask(1, "the height of a tower"), StageRecord(Task("t", "p")), tools)] == [  # type: ignore[union-attr]
        "height"
    ]
    assert select(Subtask(1, "anything"), StageRecord(Task("t", "p")), ()) == ()
    record = record_of(_played(OneStep(ANSWERING)).trajectories[0])
    assert record is not None
    assert inserted("A is {1} m or {last} ft high")(record) == "A is 10 m or 33 ft high"
    assert inserted("{3}")(record) is None


def test_a_reader_of_few_tools_is_shown_what_the_first_ranking_leaves() -> None:
    def script(request: Ask, sample: int) -> str | Message:
        text = plain_text(request.messages[-1])
        if "Which of these tools fit" in text:
            assert "feet" not in text
            return '["height"]'
        return Message("assistant", "", (Call("height", {"of": "A"}),)) if request.tools else "10"

    stages = Stages(lambda record, tools: PARTS[:1], listed(ranked()), written(), integrated())
    assert _played(OneStep(stages), script).trajectories[0].answer == "10"


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"OneStep\.k is 0"):
        OneStep(RIGHT, k=0)
    with pytest.raises(ValueError, match=r"Iterative\.retries is -1"):
        Iterative(RIGHT, retries=-1)


@pytest.mark.parametrize("given", [[1], "A", None])
@pytest.mark.parametrize("played", [OneStep, Iterative])
def test_arguments_that_are_no_object_are_a_call_that_failed(given: Any, played: Any) -> None:
    stages = Stages(RIGHT.plan, RIGHT.select, lambda part, record, tools: [Call("height", given)], integrated())
    record = record_of(_played(played(stages)).trajectories[0])
    assert record is not None
    assert record.calls[0].arguments == {"": given}
    assert record.calls[0].problem == f"should be an object of named values, not {type(given).__name__}"
    assert record.calls[0].status == "malformed"


@pytest.mark.parametrize("played", [OneStep, Iterative])
def test_a_plan_with_one_id_twice_is_refused(played: Any) -> None:
    twice = (Subtask(1, "find the height"), Subtask(1, "convert it"))
    stages = Stages(lambda record, tools: twice, RIGHT.select, RIGHT.call, integrated())
    (episode,) = drive(played(stages), Towers().tasks("train", 1), Towers(), Scripted(["33"]))
    assert "two parts with the id 1" in episode.problem


def test_parts_of_one_text_are_told_apart() -> None:
    """The second that says the same as a part that was begun is another part."""

    def script(request: Ask, sample: int) -> str:
        asked = "Which parts" in plain_text(request.messages[-1])
        return '[{"text": "find it"}, {"text": "Find  it"}]' if asked else "no"

    for played in (OneStep, Iterative):
        stages = Stages(
            planned(), lambda *_: (("height", 1.0),), lambda *_: [Call("height", {"of": "A"})], integrated()
        )
        record = record_of(_played(played(stages), script).trajectories[0])
        assert record is not None
        assert len({part.id for part in record.subtasks}) == len(record.subtasks)
        assert {each.subtask for each in record.calls} >= {1, 2}


def test_stages_ask_at_the_temperature_of_the_run_so_that_samples_differ_in_training() -> None:
    heats: list[float | None] = []

    def script(request: Ask, sample: int) -> str | Message:
        heats.append(request.temperature)
        text = plain_text(request.messages[-1])
        if request.tools:
            return Message("assistant", "", (Call("height", {"of": "A"}),))
        return '["height"]' if "Which of these" in text else "[]" if "Done so far" in text else '[{"text": "find it"}]'

    drive(agent("stages"), Towers().tasks("train", 1), Towers(), Scripted(script), temperature=0.7)
    assert heats == [0.7] * 5  # plan, select, call, plan, respond
    with pytest.raises(ValueError, match=r"Iterative.k is 0"):
        agent("stages:k=0")


def test_oracles_tell_gold_parts_of_one_text_apart() -> None:
    again = (Subtask(1, "find the height"), Subtask(2, "find the height"))
    calls = {1: (Call("height", {"of": "A"}),), 2: (Call("height", {"of": "B"}),)}
    right = oracles(lambda task: Gold(again, {1: ("height",), 2: ("height",)}, calls, "33"))
    (trajectory,) = _played(OneStep(right)).trajectories
    assert trajectory.answer == "33"
