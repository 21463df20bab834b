"""Tools that arrive in the middle of an episode: as an observation, for later turns, on states of their own."""

from __future__ import annotations

from typing import Any

import pytest
from tests.toys import layout

from ferrule.agents.react import ToolLoop
from ferrule.core.acting import Place
from ferrule.core.records import Call, Message, Observation, Task, Tool
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.rollout.record import dump, parse
from ferrule.tools.catalogue import arriving, finder
from ferrule.tools.tool import tool
from ferrule.worlds.growing import Growing, arrivals
from ferrule.worlds.session import Toolbox
from ferrule.worlds.told import Told
from ferrule.worlds.wrap import Wrapped

TASK = Task("t", "?")


@tool
def double(number: int) -> int:
    """Twice a number."""
    return 2 * number


@tool
def halve(number: int) -> float:
    """Half a number."""
    return number / 2


@tool(effects="write", state=list)
def note(text: str, state: Any) -> int:
    """Keep a line and say how many there are."""
    state.append(text)
    return len(state)


FIND = finder((double, halve, note), k=1)


def growing(*tools: Tool, **how: Any) -> Growing:
    return Growing(Toolbox((FIND,)).start(TASK), tools, **how)


def found(session: Growing, query: str, turn: int) -> Observation:
    return session.act_at(Call("tool_search", {"query": query}), Place(turn, 0))


def test_a_tool_answers_calls_of_later_turns_only() -> None:
    session = growing()
    call = Call("double", {"number": 4})
    assert session.act_at(call, Place(1, 0)).status == "unknown_tool"
    seen = found(session, "twice a number", 1)
    assert [schema["name"] for schema in seen.data["arrived"]] == ["double"]
    assert '"name": "double"' in seen.text  # the model reads of it in the observation
    early = session.act_at(call, Place(1, 1))
    assert (early.status, "unknown tool 'double'" in early.text) == ("unknown_tool", True)
    assert session.act_at(call, Place(2, 0)).text == "8"
    assert [each.name for each in session.tools] == ["tool_search", "double"]
    assert session.tools is session.tools


def test_without_a_place_the_next_call_counts_as_later() -> None:
    session = growing()
    session.act(Call("tool_search", {"query": "twice"}))
    assert session.act(Call("double", {"number": 1})).text == "2"


def test_finding_a_tool_again_does_not_put_it_off() -> None:
    session = growing()
    found(session, "twice", 1)
    found(session, "twice", 2)
    assert session.act_at(Call("double", {"number": 1}), Place(2, 1)).text == "2"


def test_branches_have_states_of_their_own() -> None:
    session = growing()
    found(session, "keep a line", 1)
    session.act_at(Call("note", {"text": "a"}), Place(2, 0))
    twin = session.fork()
    assert twin.act_at(Call("note", {"text": "b"}), Place(3, 0)).text == "2"
    assert session.act_at(Call("note", {"text": "c"}), Place(3, 0)).text == "2"
    assert [each.name for each in twin.tools] == ["tool_search", "note"]


def test_a_new_version_takes_the_place_of_the_old_one_from_the_next_turn_on() -> None:
    better = Tool("double", "Twice, better.", double.parameters, run=lambda number: number + number + 1)
    bring = Tool("bring", "", {"type": "object", "properties": {}}, lambda: arriving((better,), "double is mended"))
    session = growing(double, bring)
    session.act_at(Call("bring"), Place(1, 0))
    assert session.act_at(Call("double", {"number": 4}), Place(1, 1)).text == "8"
    assert session.act_at(Call("double", {"number": 4}), Place(2, 0)).text == "9"
    assert [each.description for each in session.tools if each.name == "double"] == ["Twice, better."]


def test_no_tool_takes_a_name_of_the_world() -> None:
    other = Tool("tool_search", "Mine.", {"type": "object", "properties": {}}, run=lambda: "")
    with pytest.raises(ValueError, match="'tool_search' is on offer already"):
        growing(other)
    bring = Tool("bring", "", {"type": "object", "properties": {}}, lambda: arriving((other,), "here"))
    session = growing(bring)
    assert session.act(Call("bring")).status == "error"
    assert len(session.tools) == 2


def test_an_earlier_name_reaches_the_tool_that_took_its_place() -> None:
    session = growing(double, also={"twice": "double"})
    for one in (session, session.fork()):
        assert one.act(Call("twice", {"number": 4})).text == "8"
        assert [each.name for each in one.tools] == ["tool_search", "double"]


def test_hidden_tools_are_on_offer_once_they_were_found() -> None:
    end = Tool("finish", "End.", {"type": "object", "properties": {}}, run=lambda: "done", terminal=True)
    inner = Toolbox((double, halve, end)).start(TASK)
    session = Growing(inner, (finder((double, halve), k=1),), hidden=True)
    assert [each.name for each in session.tools] == ["finish", "tool_search"]
    assert session.act(Call("double", {"number": 4})).status == "unknown_tool"
    session.act_at(Call("tool_search", {"query": "half"}), Place(1, 0))
    assert session.act_at(Call("halve", {"number": 4}), Place(2, 0)).text == "2.0"
    assert session.act(Call("finish")).terminal


def test_the_record_says_from_which_turn_on_and_ids_are_appended() -> None:
    """Three turns: an early call, the search, and the call: the tool answers from the third turn (place 2) on."""
    replies = [
        Message("assistant", "", (Call("double", {"number": 2}),)),
        Message("assistant", "", (Call("tool_search", {"query": "twice"}),)),
        Message("assistant", "", (Call("double", {"number": 2}),)),
        "four",
    ]
    world = Wrapped(Toolbox((FIND,)), lambda session, task, seed: Growing(session))
    (episode,) = drive(ToolLoop(), [TASK], world, Scripted(replies, renderer=layout()))
    (path,) = episode.trajectories
    assert [o.status for _, o in path.calls] == ["unknown_tool", "ok", "ok"]
    assert arrivals(path) == {"double": 2}
    assert all(turn.parent == before.id for before, turn in zip(path.turns, path.turns[1:], strict=False))
    assert not episode.drifted
    assert parse(dump(episode))[0] == episode
    assert arrivals(parse(dump(episode))[0].trajectories[0]) == {"double": 2}


def test_told_answers_the_very_calls_it_was_given() -> None:
    one, other = Call("double", {"number": 1}), Call("double", {"number": 1})
    told = Told([(one, Observation("told"))], Toolbox((double,)).start(TASK))
    assert (told.act(one).text, told.act(other).text) == ("told", "2")
    assert Told([]).act(one).status == "refused"
    assert told.fork().act(one).text == "told"


def test_a_tool_that_is_there_is_reached_before_the_one_that_took_its_name() -> None:
    session = growing(double, halve, also={"halve": "double"})
    assert session.act(Call("halve", {"number": 4})).text == "2.0"
