"""Tools whose budget is spent are not offered."""

from __future__ import annotations

from typing import Any

import pytest

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask, Session
from ferrule.core.records import Call, Message, Task, Tool
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.tools.budget import Budget
from ferrule.tools.contracts import Contract
from ferrule.worlds.aliased import Aliased, aliases
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.gated import Gated
from ferrule.worlds.limited import Limited, limited
from ferrule.worlds.session import Toolbox

ADD = Call("calculator", {"expression": "1 + 1"})


def offer(session: Session) -> list[str]:
    return [tool.name for tool in session.tools]


def opened(world: Any) -> Session:
    return world.start(world.tasks("train", 1)[0])  # type: ignore[no-any-return]


LOOK, COUNT, END = (
    Tool(name, "", {"type": "object", "properties": {}}, run=lambda: "seen", terminal=name == "finish")
    for name in ("look", "count", "finish")
)
TASK = Task("t", "?")


def test_a_spent_tool_is_withdrawn_and_its_calls_are_refused() -> None:
    session = limited(Toolbox((LOOK, COUNT)), per_tool={"look": 1}).start(TASK)
    assert offer(session) == ["look", "count"]
    assert session.tools is session.tools
    assert session.act(Call("look")).status == "ok"
    assert offer(session) == ["count"]
    refused = session.act(Call("look"))
    assert (refused.status, refused.text) == ("refused", "the budget of 1 call(s) of 'look' is spent")
    assert session.act(Call("count")).status == "ok"


def test_what_cannot_run_costs_nothing_and_terminal_tools_stay() -> None:
    session = Limited(Toolbox((LOOK, END)).start(TASK), Budget(total=1))
    assert session.act(Call("lok")).status == "unknown_tool"
    assert session.act(Call("look", problem="not JSON")).status == "malformed"
    assert session.act(Call("look")).status == "ok"
    assert offer(session) == ["finish"]
    assert session.act(Call("finish")).status == "ok"


def test_branches_spend_apart_and_episodes_start_anew() -> None:
    world = limited(Arithmetic(tools=("calculator",)), 1)
    session = opened(world)
    twin = session.fork()
    assert session.act(ADD).status == "ok"
    assert (offer(session), offer(twin)) == ([], ["calculator"])
    assert session.fork().act(ADD).status == "refused"
    assert offer(opened(world)) == ["calculator"]


def test_tools_withdrawn_below_aliases_leave_the_list_there_too() -> None:
    inner = opened(limited(Arithmetic(tools=("calculator",)), 1))
    session = Aliased(inner, aliases(inner.tools, seed=1, parameters=False))
    (name,) = offer(session)
    assert session.act(Call(name, ADD.arguments)).status == "ok"
    assert offer(session) == []
    refused = session.act(Call(name, ADD.arguments))
    assert (refused.status, refused.text) == ("refused", f"the call budget is spent (1 of 1 used, '{name}' costs 1)")
    assert session.act(ADD).status == "unknown_tool"


def test_an_agent_is_offered_less_as_it_goes() -> None:
    """With two calls the third ask has no tools left, and the answer is all that is accepted."""
    world, offered = limited(Arithmetic(tools=("calculator",)), 2), []

    def speak(request: Ask, sample: int) -> Message:
        offered.append([tool.name for tool in request.tools])
        return Message("assistant", "", (ADD,)) if len(offered) < 4 else Message("assistant", "2")

    (episode,) = drive(ToolLoop(), world.tasks("train", 1), world, Scripted(speak))
    assert offered == [["calculator"], ["calculator"], [], []]
    statuses = [observation.status for _, observation in episode.trajectories[0].calls]
    assert statuses == ["ok", "ok", "refused"]
    assert episode.trajectories[0].answer == "2"


def test_a_gate_counts_withdrawn_tools_as_well() -> None:
    session = Gated(
        Limited(Toolbox((LOOK, COUNT)).start(TASK), Budget(1)), {"look": Contract(post=("result == 'seen'",))}
    )
    assert session.act(Call("look")).status == "ok"
    assert offer(session) == []
    for branch in (session, session.fork()):
        coverage = branch.final()["gate"]["coverage"]
        assert (coverage["covered"], coverage["missing"], coverage["unused"]) == (("look",), ("count",), ())


def test_calls_with_invalid_arguments_are_charged() -> None:
    session = opened(limited(Arithmetic(tools=("calculator",)), 1))
    assert session.act(Call("calculator", {"expression": []})).status == "malformed"
    assert offer(session) == []


def test_limits_that_limit_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="give calls or per_tool"):
        limited(Arithmetic())
    with pytest.raises(ValueError, match="the least is 0"):
        limited(Arithmetic(), -1)
    with pytest.raises(ValueError, match="the least is 0"):
        limited(Arithmetic(), per_tool={"calculator": float("nan")})  # type: ignore[dict-item]
