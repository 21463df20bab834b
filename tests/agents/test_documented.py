"""Agents that read other documents of their tools."""

from __future__ import annotations

import pytest
from tests.toys import NOTE, Bench, layout

from ferrule.agents.documented import Documented, by_text
from ferrule.agents.react import ToolLoop
from ferrule.agents.refine import settled
from ferrule.agents.text_search import OnItems, search_texts
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Trajectory, plain_text
from ferrule.evaluate.evaluate import evaluate
from ferrule.evaluate.texts import played_with
from ferrule.policies.scripted import Scripted
from ferrule.tools.documents import documents_text, edited
from ferrule.tools.overlay import Overlay

WORDED = edited(Overlay(), {("note", "description"): "say yes", ("absent", "description"): "x"})


def reply(request: Ask, sample: int) -> Message:
    """Say yes where a document or a rule says so, after a call of the tool."""
    if request.messages[-1].role == "tool":
        told = plain_text(request.messages[0]) + request.tools[-1].description
        return Message("assistant", "yes" if "say yes" in told else "no")
    return Message("assistant", "", (Call("note", {"text": "a"}),))


def test_tools_are_read_in_other_words_and_rules_are_told() -> None:
    world, policy = Bench((NOTE,)), Scripted(reply, renderer=layout("hermes"))
    tasks = world.tasks("test", 3)

    def success(agent: object) -> float:
        evaluation = evaluate(agent, policy, world, tasks)  # type: ignore[arg-type]
        assert all(not episode.problem for episode in evaluation.episodes)
        path: Trajectory = evaluation.episodes[0].trajectories[0]
        assert [call.name for call, _ in path.calls] == ["note"]
        return evaluation.success

    assert success(ToolLoop()) == 0.0
    assert success(Documented(ToolLoop(), WORDED)) == 1.0
    assert success(Documented(ToolLoop(), rules={"R1": "say yes"})) == 1.0
    assert success(by_text(ToolLoop(), documents_text(WORDED))) == 1.0
    assert Documented(ToolLoop(role="helper")).role == "helper"


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="gives 'note' or a parameter of it another name"):
        Documented(ToolLoop(), edited(Overlay(), {("note", "parameters.text.name"): "words"}))


def test_documents_are_searched_for_by_how_tasks_end() -> None:
    world, policy = Bench((NOTE,)), Scripted(reply, renderer=layout("hermes"))
    items = world.tasks("test", 4)
    run = played_with(lambda text: by_text(ToolLoop(), text), policy, world)
    start = documents_text(Overlay())
    better = documents_text(WORDED)
    on = OnItems(run, items)
    found = settled(
        search_texts([start], lambda text, told: [better], on, learn=[0, 1], judge=[2, 3], size=1, rounds=1)
    )
    assert found.best.text == better
    assert found.best.checked.score == 1.0
