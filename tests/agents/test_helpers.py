"""Agents as tools of another: their answers, their turns in the record, and what they may use."""

from __future__ import annotations

from typing import Any

import pytest

from ferrule.agents.helpers import Helper, WithHelpers, child_turns
from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Observation, Task, Tool, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.worlds.session import Toolbox

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"of": {"type": "string"}}, "required": ["of"]}
TOOLS = (
    Tool("rings", "Count rings.", SCHEMA, lambda of: f"{of} has {len(of)} rings"),
    Tool("mass", "Weigh.", SCHEMA, lambda of: 10),
)


def _call(name: str, **arguments: Any) -> Message:
    return Message("assistant", "", (Call(name, arguments),))


def chemist(request: Ask, sample: int) -> str | Message:
    """Call the tool on offer for the last word of the request, then say what it gave."""
    last = request.messages[-1]
    if last.role == "tool":
        return f"I found: {plain_text(last)}"
    return _call(request.tools[0].name, of=plain_text(last).split()[-1])


def _played(agent: Any, *solver: str | Message, **roles: Any) -> Episode:
    policies = {"solver": Scripted(list(solver)), "chem": Scripted(chemist), **roles}
    (episode,) = drive(agent, [Task("t", "How many rings?", world="toolbox")], Toolbox(TOOLS), policies)
    assert not episode.problem, episode.problem
    return episode


CHEM = Helper("chem", "Knows chemistry.", ToolLoop(), ("rings",))


def test_a_call_returns_the_answer_and_the_helpers_turns_are_a_trace_of_their_own() -> None:
    """Example 5 of paper 03: the outer trace holds one observation, the inner one lies beside it, not in its tokens."""
    agent = WithHelpers(ToolLoop(), (CHEM,), tools=())
    episode = _played(agent, _call("chem", request="count the rings of abc"), "3")
    (outer,), (inner,) = episode.of_role("solver"), episode.of_role("chem")
    assert [message.role for message in outer.turns[-1].messages] == ["tool"]
    assert outer.answer == "3"
    observation = outer.turns[0].observations[0]
    assert (observation.text, observation.status) == ("I found: abc has 3 rings", "ok")
    assert [plain_text(turn.reply) for turn in inner.turns] == ["", "I found: abc has 3 rings"]
    assert list(child_turns([*outer.turns, *inner.turns], observation)) == list(inner.turns)
    assert episode.spent["chem"].asks == 2


def test_calls_of_one_reply_are_played_side_by_side_each_with_its_trace() -> None:
    both = Message(
        "assistant", "", tuple(Call("chem", {"request": f"rings of {name}"}) for name in ("ab", "ab", "xyz"))
    )
    episode = _played(WithHelpers(ToolLoop(), (CHEM,)), both, "done")
    (outer,) = episode.of_role("solver")
    texts = [seen.text for seen in outer.turns[0].observations]
    assert texts == ["I found: ab has 2 rings", "I found: ab has 2 rings", "I found: xyz has 3 rings"]
    inner = {turn.id: turn for path in episode.of_role("chem") for turn in path.turns}.values()
    traces = [[turn.id for turn in child_turns(inner, seen)] for seen in outer.turns[0].observations]
    assert [len(trace) for trace in traces] == [2, 2, 2]
    assert len({id for trace in traces for id in trace}) == 6


def test_a_helper_may_use_its_tools_alone_and_the_caller_what_is_left() -> None:
    seen: dict[str, list[str]] = {}

    def told(role: str, *replies: str | Message) -> Scripted:
        left = list(replies)

        def script(request: Ask, sample: int) -> str | Message:
            seen.setdefault(role, []).append(",".join(tool.name for tool in request.tools))
            return left.pop(0)

        return Scripted(script)

    roles = {
        "solver": told("solver", _call("chem", request="x"), "end"),
        "chem": told("chem", _call("mass", of="x"), "none"),
    }
    world = Toolbox(TOOLS)
    agent = WithHelpers(ToolLoop(), (CHEM,), tools=("mass",))
    (episode,) = drive(agent, [Task("t", "p", world="toolbox")], world, roles)
    assert seen == {"solver": ["mass,chem", "mass,chem"], "chem": ["rings", "rings"]}
    (inner,) = episode.of_role("chem")
    assert inner.turns[0].observations[0].status == "unknown_tool"


def test_helpers_may_have_helpers_and_their_traces_nest() -> None:
    lab = Helper("lab", "Has a chemist.", WithHelpers(ToolLoop(), (CHEM,), tools=()))
    roles = {"lab": Scripted([_call("chem", request="rings of abcd"), "four"])}
    episode = _played(WithHelpers(ToolLoop(), (lab,)), _call("lab", request="ask the chemist"), "4", **roles)
    turns = [turn for path in episode.trajectories for turn in path.turns]
    (outer,) = episode.of_role("solver")
    assert outer.turns[0].observations[0].text == "four"
    below = child_turns(turns, outer.turns[0].observations[0])
    assert sorted({turn.role for turn in below}) == ["chem", "lab"]
    call = next(turn for turn in below if turn.role == "lab" and turn.observations)
    assert {turn.role for turn in child_turns(turns, call.observations[0], call)} == {"chem"}


def test_no_answer_and_calls_that_do_not_fit_are_observations() -> None:
    silent = Helper("chem", "d", ToolLoop(turns=0))
    episode = _played(WithHelpers(ToolLoop(), (silent,)), _call("chem", request="x"), _call("chem", ask="x"), "end")
    outer = episode.of_role("solver")[0]
    assert [turn.observations[0].status for turn in outer.turns[:2]] == ["error", "malformed"]
    with pytest.raises(ValueError, match="not that of a helper"):
        child_turns(outer.turns, Observation("x"))


def test_helpers_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="two named 'chem'"):
        WithHelpers(ToolLoop(), (CHEM, CHEM))
    with pytest.raises(ValueError, match="is empty"):
        WithHelpers(ToolLoop(), ())
    with pytest.raises(ValueError, match="cannot be named 'solver'"):
        WithHelpers(ToolLoop(), (Helper("solver", "d", ToolLoop()),))


def test_a_request_that_has_to_be_repaired_is_played_as_it_is_read() -> None:
    episode = _played(WithHelpers(ToolLoop(), (CHEM,), tools=()), _call("chem", request=35), "done")
    (observation,) = episode.of_role("solver")[0].turns[0].observations
    assert (observation.text, observation.repairs) == ("I found: 35 has 2 rings", ("text:request",))
