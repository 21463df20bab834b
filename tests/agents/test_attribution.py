"""Which tool a failure is due to."""

from __future__ import annotations

from typing import Any

from tests.toys import Bench, layout

from ferrule.agents.attribution import attributed, first_failed, mentioned
from ferrule.core.flows import Ask, Flow
from ferrule.core.records import Call, Observation, Task, Tool, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive


def test_names_are_whole_words_and_longer_ones_hide_shorter() -> None:
    names = ("find", "find_hotel", "book.room")
    assert mentioned("find_hotel failed, then book.room", names) == ("find_hotel", "book.room")
    assert mentioned("`find` it", names) == ("find",)
    assert mentioned("refind, finding", names) == ()
    assert mentioned("find", ()) == ()


def test_the_record_says_which_call_failed_first() -> None:
    calls = [
        (Call("a"), Observation("x")),
        (Call("b"), Observation("", "timeout")),
        (Call("c"), Observation("", "error")),
    ]
    assert first_failed(calls) == "b"
    assert first_failed(calls[:1]) == ""


def test_a_reviewer_names_the_tool() -> None:
    asked: list[Ask] = []

    def review(request: Ask, sample: int) -> str:
        asked.append(request)
        return "The id went to get_room, which wants a name."

    def agent(task: Task, session: Any) -> Flow[str]:
        tools = [Tool(name, f"does {name}", {}, run=dict) for name in ("get_id", "get_room")]
        return ",".join((yield from attributed("Where?", tools, "get_room(get_id())", "KeyError")))

    world = Bench()
    (episode,) = drive(agent, world.tasks("train", 1), world, Scripted(review, renderer=layout()))
    assert episode.trajectories[0].answer == "get_room"
    text = plain_text(asked[0].messages[0])
    assert asked[0].role == "reviewer"
    assert all(part in text for part in ("Where?", "- get_id: does get_id", "get_room(get_id())", "KeyError"))
