"""The three memories that an episode is folded into."""

from __future__ import annotations

import json

from ferrule.agents.folded import (
    Action,
    Episodic,
    Event,
    ToolMemory,
    ToolUse,
    Working,
    counted,
    fold,
    read_memory,
)
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Observation, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.settle import settle

PAST = [
    (Call("look", {"at": "a"}), Observation("seen")),
    (Call("look", {"at": "b"}), Observation("dark", "error")),
    (Call("take", {}), Observation("taken")),
]
WORKING = {
    "immediate_goal": "leave",
    "current_challenges": "the door",
    "next_actions": [{"type": "tool_call", "description": "open it"}],
}


def test_memories_are_read_with_and_without_words_around() -> None:
    event = {"step": 1, "description": "looked", "outcome": "seen"}
    text = json.dumps({"task_description": "t", "key_events": [event], "current_progress": "half", "more": 1})
    whole = Episodic("t", (Event(1, "looked", "seen"),), "half")
    assert read_memory(Episodic, text) == read_memory(Episodic, f"Here:\n```json\n{text}\n```") == whole
    assert read_memory(Working, json.dumps(WORKING)) == Working("leave", "the door", (Action("tool_call", "open it"),))
    assert read_memory(Episodic, '{"current_progress": "half"}') == Episodic(current_progress="half")


def test_what_is_no_memory() -> None:
    """No object, no entry of the schema, an entry of another type, an action of no known type."""
    wrong = {**WORKING, "next_actions": [{"type": "dance", "description": ""}]}
    for kind, text in (
        (Episodic, "none"),
        (Episodic, '{"other": 1}'),
        (Episodic, '{"key_events": 3}'),
        (Working, json.dumps(wrong)),
    ):
        assert read_memory(kind, text) is None  # type: ignore[type-var]


def test_the_record_counts_its_tools() -> None:
    """look ran well once of two times, take once of once."""
    assert counted(PAST) == ToolMemory(
        (ToolUse("look", 0.5, (), ("dark",)), ToolUse("take", 1.0)),
    )


def test_a_fold_asks_three_times_and_keeps_what_it_cannot_read() -> None:
    asked: list[str] = []

    def helper(request: Ask, sample: int) -> str:
        asked.append(plain_text(request.messages[-1]))
        return json.dumps(WORKING) if '"immediate_goal"' in asked[-1] else "I looked twice."

    settled = settle([fold("Leave.", ["first", "then"], PAST, before="older")], {"helper": Scripted(helper)})
    (folded,) = settled.values
    assert folded is not None
    assert (folded.episodic, folded.tools) == ("I looked twice.", counted(PAST))
    assert isinstance(folded.working, Working)
    assert len(asked) == 3
    assert all(part in asked[0] for part in ("Leave.", "older", "[1] first", "[2] then", "-> [error] dark"))
    assert folded.text.splitlines()[0] == "Episodic memory: I looked twice."
    assert settled.spent["helper"].asks == 3


def test_null_is_empty_and_what_follows_the_object_does_not_matter() -> None:
    text = '{"key_events": [{"step": null, "outcome": "seen"}], "current_progress": null}\nNote: {so far}'
    assert read_memory(Episodic, text) == Episodic(key_events=(Event(outcome="seen"),))
    assert read_memory(Episodic, '{"current_progress": "half') is None
