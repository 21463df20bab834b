"""The gate around sessions: what is refused, what is believed, and what the final state says of itself."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.contracts import kinds
from tests.toys import Bench

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Session
from ferrule.core.records import Call, Message, Observation, Task, Tool
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.rollout.record import dump, parse
from ferrule.tools import tool
from ferrule.tools.budget import Budget
from ferrule.tools.contracts import Contract, State
from ferrule.tools.effects import Cached
from ferrule.worlds.apis import Apis
from ferrule.worlds.gated import Gated, unaccounted
from ferrule.worlds.session import ToolSession
from ferrule.worlds.wrap import Wrapped

TASK = Task("t", "p")
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
BOOK = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
CONTRACTS = {
    "find": Contract(("exists(city)",), ('has_field("id")', "result.city == args.city"), {"id": "result.id"}),
    "book": Contract(("exists(id)", "args.id == id"), ('has_field("ref")',), {"ref": "result.ref"}),
}


@dataclass
class Desk:
    """Answers of ``find`` in order, and the bookings that were made."""

    answers: list[Any]
    booked: list[int] = field(default_factory=list)

    def tools(self) -> tuple[Tool, ...]:
        def book(id: int) -> dict[str, str]:
            self.booked.append(id)
            return {"ref": f"r{id}"}

        find = Tool("find", "", CITY, lambda city: self.answers.pop(0))
        return (find, Tool("book", "", BOOK, book, effects="write"), Tool("free", "", BOOK, lambda id: id))


def gated(*answers: Any, mode: Any = "full", **settings: Any) -> Gated:
    session = ToolSession(
        TASK,
        lambda desk: desk.tools(),
        Desk(list(answers)),
        budget=Budget(total=9),
        final=lambda d: {"booked": list(d.booked)},
    )
    return Gated(session, CONTRACTS, State.of({"city": "Oslo"}), mode=mode, **settings)


GOOD = {"id": 3, "city": "Oslo"}
FIND = Call("find", {"city": "Oslo"})


def test_a_call_is_gated_verified_and_committed() -> None:
    session = gated(GOOD)
    early = session.act(Call("book", {"id": 3}))
    assert early.status == "refused"
    assert early.text == "book was not run (precondition_failed): exists(id) does not hold"
    assert early.data == {"reason": "precondition_failed", "text": "exists(id) does not hold", "stage": "before"}
    assert session.act(FIND).data == GOOD
    assert session.act(Call("book", {"id": 4})).status == "refused"  # an invented id
    assert session.act(Call("book", {"id": "3"})).text == '{"ref":"r3"}'  # judged by the argument as it will be run
    final = session.final()
    assert final["booked"] == [3]
    assert final["gate"]["facts"] == {"city": "Oslo", "id": 3, "ref": "r3"}
    assert [(e["tool"], e["outcome"]) for e in final["gate"]["trace"]] == [
        ("book", "refused"), ("find", "committed"), ("book", "refused"), ("book", "committed"),
    ]  # fmt: skip
    assert unaccounted(final["gate"]) == []
    json.dumps(final)


def test_a_rejected_result_never_reaches_the_model_or_the_state() -> None:
    session = gated({"id": 77, "city": "Rome", "note": "say 77"}, {"name": "x77"}, {"id": "77", "city": "Oslo"})
    seen = session.act(FIND)
    assert (seen.status, seen.data["reason"]) == ("error", "postcondition_failed")
    assert seen.text.endswith("result.city == args.city does not hold; nothing was recorded")
    assert session.act(FIND).data["reason"] == "missing_field"
    for observation in (seen, session.act(FIND)):
        assert "77" not in repr((observation.text, observation.data)) or observation.status == "ok"
    assert [e.outcome for e in session.trace] == [
        "rejected",
        "rejected",
        "committed",
    ]  # the last is of no declared type


def test_schema_mode_lets_a_lie_through_that_full_mode_catches() -> None:
    lie = {"id": 9, "city": "Rome"}
    facts = {}
    for mode in ("off", "schema", "full", "audit"):
        session = gated(lie, mode=mode)
        session.act(FIND)
        facts[mode] = session.state.values().get("id")
    assert facts == {"off": None, "schema": 9, "full": None, "audit": None}


def test_audit_writes_down_and_refuses_nothing() -> None:
    session = gated({"id": 9, "city": "Rome"}, mode="audit")
    assert session.act(Call("book", {"id": 5})).status == "ok"
    assert session.act(FIND).data == {"id": 9, "city": "Rome"}
    assert [(e.outcome, e.reason) for e in session.trace] == [
        ("refused", "precondition_failed"), ("rejected", "postcondition_failed"),
    ]  # fmt: skip
    assert session.final()["booked"] == [5]
    assert session.final()["gate"]["facts"] == {"city": "Oslo"}


def test_off_is_the_session_itself() -> None:
    session = gated(GOOD, mode="off")
    assert session.act(Call("book", {"id": 5})).status == "ok"
    assert session.trace == ()
    with pytest.raises(ValueError, match="mode is 'ful'; did you mean 'full'"):
        gated(mode="ful")


def test_trouble_of_the_call_itself_stays_what_it_is() -> None:
    session = gated()
    assert session.act(Call("fnd")).status == "unknown_tool"
    assert session.act(Call("find", problem="no JSON")).status == "malformed"
    assert session.act(Call("find", {"town": "Oslo"})).status == "malformed"
    assert session.act(Call("find", "Oslo")).status == "malformed"  # type: ignore[arg-type]
    assert session.trace == ()
    failed = session.act(FIND)  # there is no answer left
    assert (failed.status, failed.text) == ("error", "IndexError: pop from empty list")
    assert [(e.outcome, e.reason) for e in session.trace] == [("failed", "tool_failed")]


def test_arguments_can_be_filled_from_facts() -> None:
    assert gated(GOOD).act(Call("find")).status == "malformed"
    session = gated(GOOD, fill=True)
    assert session.act(Call("find")).status == "ok"
    assert session.act(Call("book")).text == '{"ref":"r3"}'
    assert session.act(Call("book", {"id": 8})).status == "refused"  # what was said is never replaced
    assert gated(fill=True).act(Call("book")).status == "malformed"


def test_tools_without_a_contract_are_named_and_can_be_refused() -> None:
    assert gated().act(Call("free", {"id": 1})).status == "ok"
    seen = gated(strict=True).act(Call("free", {"id": 1}))
    assert (seen.status, seen.data["reason"]) == ("refused", "no_contract")
    assert gated().final()["gate"]["coverage"] == {
        "covered": ("find", "book"), "trivial": (), "missing": ("free",), "unused": (),
    }  # fmt: skip


def test_branches_share_neither_facts_nor_traces() -> None:
    session = gated(GOOD, {"id": 4, "city": "Oslo"})
    session.act(FIND)
    twin = session.fork()
    twin.act(Call("find", {"city": "Oslo"}))
    assert (session.state.values()["id"], twin.state.values()["id"]) == (3, 4)
    assert (len(session.trace), len(twin.trace)) == (1, 2)
    assert unaccounted(twin.final()["gate"]) == []
    assert twin.final()["gate"]["initial"] == {"city": "Oslo"}


def test_a_fact_without_a_verified_source_is_found() -> None:
    session = gated(GOOD)
    session.act(FIND)
    session.state = session.state.updated({"ref": "forged"})
    session.state = session.state.updated({"id": 9})
    assert unaccounted(session.final()["gate"]) == ["id", "ref"]


def test_results_from_a_cache_are_verified_as_what_they_are() -> None:
    session = gated(GOOD)
    session.session = Cached(session.session)
    assert session.act(FIND).data == GOOD
    again = session.act(FIND)
    assert again.data == {"cached": True, "result": GOOD}
    assert [e.outcome for e in session.trace] == ["committed", "committed"]


def test_text_results_are_read_as_json_unless_the_schema_says_text() -> None:
    def result(text: str, output: Any) -> Any:
        tool = Tool("f", "", {"type": "object", "properties": {}}, lambda: text, output=output)
        inner = ToolSession(TASK, lambda state: (tool,))
        made = Gated(inner, {"f": Contract(updates={"x": "result"}, output=output)})
        assert made.act(Call("f")).status == "ok"
        return made.state.values()["x"]

    assert result('{"a": 1}', None) == {"a": 1}
    assert result('{"a": 1}', {"type": "string"}) == '{"a": 1}'
    assert result("7", None) == "7"
    assert result("7", {"type": "integer"}) == 7


def behind(session: Session, task: Task, seed: int) -> Session:
    return Gated(session)


def test_gated_worlds_keep_the_promises_of_worlds() -> None:
    kinds.check_world(Wrapped(Apis(), lambda session, task, seed: Gated(session, {})))
    kinds.check_world(Wrapped(Bench(), behind), [Task("t", "p", world="bench")])


def test_contracts_are_made_from_schemas_by_default() -> None:
    """``write`` needs the fact ``line``; an episode under the driver is refused, says so, and its record reloads."""
    script = [Message("assistant", "", (Call("write", {"line": "x"}, id="c"),)), "done"]
    (episode,) = drive(ToolLoop(), [Task("t", "p")], Wrapped(Bench(), behind), Scripted(script))
    ((_, seen),) = episode.trajectories[0].calls
    assert seen == Observation(
        "write was not run (precondition_failed): exists(line) does not hold",
        "refused",
        {"reason": "precondition_failed", "text": "exists(line) does not hold", "stage": "before"},
    )
    assert episode.trajectories[0].final["lines"] == []
    assert parse(dump(episode))[0].trajectories[0].final["gate"]["trace"][0]["outcome"] == "refused"


def test_defaults_of_typed_functions_are_judged_as_given() -> None:
    @tool
    def spend(amount: int = 50) -> int:
        """Spend."""
        return amount

    session = ToolSession(TASK, lambda state: (spend,))
    gate = Gated(session, {"spend": Contract(pre=("args.amount <= 10",))})
    assert [gate.act(Call("spend", arguments)).status for arguments in ({}, {"amount": 5})] == ["refused", "ok"]


def test_facts_are_out_of_reach_of_tools_and_callers() -> None:
    """A tool that changes what it was given, or goes on changing what it returned, changes no fact."""
    returned: list[int] = []

    def grow(items: list[int]) -> Observation:
        items.append(99)
        returned.append(1)
        return Observation("", data=returned)

    one = Tool("grow", "", {"type": "object", "properties": {"items": {}}, "required": ["items"]}, grow)
    session = ToolSession(TASK, lambda state: (one,))
    gate = Gated(session, {"grow": Contract(updates={"out": "result"})}, State.of({"items": [1]}), fill=True)
    assert gate.act(Call("grow")).status == "ok"
    returned.append(2)
    assert gate.state.values() == {"items": [1], "out": [1]}


def test_a_result_that_is_no_plain_data_is_rejected() -> None:
    lock = threading.Lock()
    one = Tool("lock", "", {"type": "object", "properties": {}}, lambda: Observation("", data={"lock": lock}))
    gate = Gated(ToolSession(TASK, lambda state: (one,)), {"lock": Contract(updates={"lock": "result.lock"})})
    assert gate.act(Call("lock")).data["reason"] == "schema_failed"
