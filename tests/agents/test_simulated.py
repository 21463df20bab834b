"""Tools that a model plays from their documents."""

from __future__ import annotations

from typing import Any

from ferrule.agents.in_stream import InStream
from ferrule.agents.react import ToolLoop
from ferrule.agents.simulated import Simulated
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Task, Tool, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.worlds.session import Toolbox

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def never(**arguments: Any) -> str:
    raise AssertionError("the tool itself was run")


SKY = Tool("sky", "The sky over a city.", CITY, never, output={"type": "string"})
END = Tool("finish", "End.", {"type": "object", "properties": {}}, lambda: "done", terminal=True)


def played(agent: Any, *calls: Call | str) -> tuple[Any, list[str]]:
    asked: list[str] = []

    def simulator(request: Ask, sample: int) -> str:
        asked.append(plain_text(request.messages[-1]))
        return f"grey {len(asked)}"

    replies = [Message("assistant", "", (call,)) if isinstance(call, Call) else call for call in calls]
    policies = {"solver": Scripted(replies), "simulator": Scripted(simulator)}
    (episode,) = drive(agent, [Task("t", "?")], Toolbox((SKY, END)), policies)
    assert not episode.problem, episode.problem
    return episode, asked


def test_calls_are_answered_from_the_document_and_what_was_said_before() -> None:
    episode, asked = played(Simulated(), Call("sky", {"city": "Ulm"}), Call("sky", {"city": "Rom"}), "grey")
    assert [o.text for _, o in episode.trajectories[0].calls] == ["grey 1", "grey 2"]
    assert '"returns": {"type": "string"}' in asked[0]
    assert 'sky({"city": "Ulm"}) -> grey 1' in asked[1]
    assert episode.trajectories[0].answer == "grey"
    assert episode.spent["simulator"].asks == 2
    assert {path.role for path in episode.trajectories} == {"solver", "simulator"}


def test_only_calls_that_fit_are_simulated() -> None:
    """A missing argument is malformed, another name unknown, and the end of the episode is the world's."""
    episode, asked = played(Simulated(), Call("sky", {}), Call("sea", {}), Call("finish"))
    assert [o.status for _, o in episode.trajectories[0].calls] == ["malformed", "unknown_tool", "ok"]
    assert (episode.trajectories[0].answer, asked) == ("done", [])


def test_in_a_stream_the_search_is_real_and_what_it_finds_is_not() -> None:
    find = Call("tool_search", {"query": "sky"})
    episode, asked = played(Simulated(InStream(given=False)), find, Call("sky", {"city": "Ulm"}), "grey")
    assert [o.status for _, o in episode.trajectories[0].calls] == ["ok", "ok"]
    assert [o.text for _, o in episode.trajectories[0].calls][1] == "grey 1"
    assert len(asked) == 1


def test_the_role_is_that_of_the_agent() -> None:
    assert Simulated(ToolLoop(role="player")).role == "player"
