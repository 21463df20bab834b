"""An agent that asks for a tool: a ticket, a build loop apart from the task, and a tool that arrives."""

from __future__ import annotations

from typing import Any

import pytest

from ferrule.agents.creating import Creating, Ticket, build, request_tool, ticket_of
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Observation, Task, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.rollout.settle import settle
from ferrule.tools.forge import Proposal
from ferrule.tools.forge_shelf import Forged
from ferrule.tools.forge_trial import Made, Trial
from ferrule.worlds.growing import arrivals
from ferrule.worlds.session import Toolbox

TICKET = {
    "context": "a right triangle",
    "problem": "length of the long side",
    "name": "hyp",
    "inputs": {"a": "float", "b": "float"},
    "output": "a float",
    "examples": ["hyp(3, 4) = 5"],
}
RIGHT = '''```python
import math

def hyp(a: float, b: float) -> float:
    """Return the hypotenuse of a right triangle.

    Args:
        a: one side
        b: the other side
    """
    return math.sqrt(a * a + b * b)
```

```python
assert hyp(3.0, 4.0) == 5.0
assert hyp(5.0, 12.0) == 13.0
assert hyp(0.0, 2.0) == 2.0
```
'''
WRONG = RIGHT.replace("a * a + b * b)", "a * a - b * b)")
TRIAL = Trial(repeats=2, variants=2)
ASKED = Message("assistant", "", (Call("request_tool", TICKET),))
USED = Message("assistant", "", (Call("hyp", {"a": 6, "b": 8}),))


def roles(maker: list[str], critic: list[str], solver: Any = ()) -> dict[str, Any]:
    return {"maker": Scripted(maker), "critic": Scripted(critic), "solver": Scripted(solver)}


def checks(forging: Any) -> list[list[str]]:
    return [[finding.check for finding in examined.findings] for examined in forging.attempts]


def test_a_tool_is_admitted_when_sandbox_and_critic_agree_to_the_same_reply() -> None:
    """(1, 0), (0, 0), (1, 1): rejected by the critic, failed in the sandbox, accepted."""
    policies = roles([RIGHT, WRONG, RIGHT], ["REJECT: no edge cases", "AGREE"])
    (forging,) = settle([build(Ticket(**TICKET), trial=TRIAL)], policies).values  # type: ignore[arg-type]
    assert forging is not None
    assert (checks(forging)[0], checks(forging)[2]) == (["critic"], [])
    assert "critic" not in checks(forging)[1]
    assert checks(forging)[1]
    assert forging.promotable


def test_examples_that_the_maker_does_not_see_must_hold_as_well() -> None:
    """The reply passes its own tests and misses a held-out call."""
    own = WRONG.replace("a * a - b * b)", "a * a + b * b) if a < 6.0 else 0.0")
    flow = build(Ticket(**TICKET), rounds=1, trial=TRIAL, examples=[Made({"a": 6.0, "b": 8.0}, 10.0)])  # type: ignore[arg-type]
    (forging,) = settle([flow], roles([own], ["AGREE"])).values
    assert forging is not None
    assert checks(forging) == [["examples"]]


def test_three_rejections_are_the_end() -> None:
    policies = roles([RIGHT] * 3, ["REJECT: no"] * 3)
    (forging,) = settle([build(Ticket(**TICKET), trial=TRIAL)], policies).values  # type: ignore[arg-type]
    assert forging is not None
    assert (len(forging.attempts), forging.promotable) == (3, False)


def played(solver: Any, maker: list[str], critic: list[str], **how: Any) -> Any:
    player = Creating(trial=TRIAL, **how)
    task = Task("t", "The answer 10 is secret.", "10")
    (episode,) = drive(player, [task], Toolbox(()), roles(maker, critic, solver))
    assert not episode.problem, episode.problem
    return episode


def test_what_is_built_arrives_and_can_be_called_from_the_next_turn_on() -> None:
    episode = played([USED, ASKED, USED, "10"], [RIGHT], ["AGREE"])
    path = episode.trajectories[0]
    assert [o.status for _, o in path.calls] == ["unknown_tool", "ok", "ok"]
    assert path.calls[2][1].text == "10.0"
    assert arrivals(path) == {"hyp": 2}
    assert "def hyp" in path.calls[1][1].data["built"]["source"]
    asked = [plain_text(m) for p in episode.trajectories if p.role == "maker" for t in p.turns for m in t.messages]
    assert not any("secret" in text for text in asked)  # the build loop sees the ticket alone
    assert episode.spent["maker"].asks == 1


def test_equal_tickets_are_built_once_and_a_failed_build_is_no_end() -> None:
    episode = played([ASKED, ASKED, USED, "none"], [WRONG] * 3, [])
    path = episode.trajectories[0]
    assert [o.status for _, o in path.calls] == ["refused", "refused", "unknown_tool"]
    assert (path.answer, episode.spent["maker"].asks) == ("none", 3)


def test_tools_of_the_shelf_are_on_offer_from_the_start() -> None:
    source = RIGHT.split("```python\n")[1].split("```")[0]
    entry = Forged("hyp", Proposal(source, "", "hyp"), covers=("long_side",))
    offered: list[list[str]] = []

    def solver(request: Ask, sample: int) -> Message | str:
        offered.append([tool.name for tool in request.tools])
        return USED if len(offered) == 1 else "10"

    episode = played(solver, [], [], shelf=lambda: (entry,))
    assert offered[0] == ["request_tool", "hyp"]
    assert episode.trajectories[0].calls[0][1].text == "10.0"
    merged = Message("assistant", "", (Call("long_side", {"a": 6, "b": 8}),))
    episode = played([merged, "10"], [], [], shelf=lambda: (entry,))
    assert episode.trajectories[0].calls[0][1].text == "10.0"


def test_what_is_no_ticket() -> None:
    assert ticket_of(Call("request_tool", {"name": "x"})) is None
    assert ticket_of(Call("request_tool", {**TICKET, "inputs": "a, b"})) is None
    assert ticket_of(Call("request_tool", {**TICKET, "more": 1})) is None
    ticket = ticket_of(Call("request_tool", TICKET))
    assert ticket is not None
    assert 'inputs: {"a": "float", "b": "float"}' in ticket.text
    episode = played([Message("assistant", "", (Call("request_tool", {"name": "x"}),)), "none"], [], [])
    assert episode.trajectories[0].calls[0][1].status == "malformed"
    assert request_tool(lambda ticket: Observation("")).effects == "write"


def test_arguments_of_a_ticket_are_repaired_as_those_of_every_call() -> None:
    """Inputs as JSON text and one example as text: the ticket that is built is the one that is answered."""
    asked = {**TICKET, "inputs": '{"a": "float", "b": "float"}', "examples": "hyp(3, 4) = 5"}
    assert ticket_of(Call("request_tool", asked)) == ticket_of(Call("request_tool", TICKET))
    episode = played([Message("assistant", "", (Call("request_tool", asked),)), USED, "10"], [RIGHT], ["AGREE"])
    assert [o.status for _, o in episode.trajectories[0].calls] == ["ok", "ok"]
    numbered = ticket_of(Call("request_tool", {**TICKET, "name": 5}))
    assert numbered is None or numbered.name == "5"


def test_a_ticket_for_a_name_that_is_taken_is_not_built() -> None:
    replies = [Message("assistant", "", (Call("request_tool", {**TICKET, "name": "request_tool"}),)), "none"]
    episode = played(replies, [], [])
    assert [o.status for _, o in episode.trajectories[0].calls] == ["refused"]
    assert "another name" in episode.trajectories[0].calls[0][1].text
    with pytest.raises(ValueError, match=r"Creating.rounds is 0"):
        Creating(rounds=0)
