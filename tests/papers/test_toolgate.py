"""ToolGate: the released agent, and what a gate does that an open door does not."""

from __future__ import annotations

import pytest

from ferrule.agents.gate import CALL, ToolGate
from ferrule.core.records import Task, Tool
from ferrule.papers import find, toolgate
from ferrule.papers.claims import toolgate as claim
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.studies.standins import lookups
from ferrule.tools.contracts import Contract
from ferrule.train.grpo import grpo
from ferrule.worlds.session import Toolbox

SCHEMA = {"type": "object", "properties": {"city": {}}, "required": ["city"]}


def test_the_released_agent_calls_with_null_and_never_tries_again() -> None:
    """Without the fact ``city`` it calls with null, and the tool that failed once is out for the rest of the run."""
    calls: list[str | None] = []

    def find_place(city: str | None) -> dict[str, int]:
        calls.append(city)
        raise ConnectionError("down")

    tool = Tool("find", "find a place", {**SCHEMA, "properties": {"city": {}}}, find_place)
    open_door = {"find": Contract(updates={"id": "result.id"}, reference=True)}
    for agent, wanted in ((toolgate.published(open_door), [None]), (ToolGate(open_door), [])):
        calls.clear()
        script = Scripted([f"{CALL} find a place", f"{CALL} find a place", "done"])
        (played,) = drive(agent, [Task("t", "?")], Toolbox((tool,)), script)
        assert played.trajectories[0].answer == "done"
        assert calls == wanted


def test_the_recipe_changes_the_agent_alone() -> None:
    base = grpo()
    changed = toolgate.recipe(base, steps=3)
    assert isinstance(changed.agent, ToolGate)
    assert changed.agent.steps == 3
    assert (changed.reward, changed.credit, changed.objective) == (base.reward, base.credit, base.objective)


@pytest.mark.parametrize("errs", [0.0, 0.3])
def test_full_contracts_keep_every_wrong_fact_out(errs: float) -> None:
    """The ablation: without the echo a lie becomes a fact, without any condition calls without arguments do as well."""
    played = {kind: claim.look_ups(kind=kind, errs=errs, seed=77, episodes=60) for kind in lookups.ARMS}
    assert played["full"]["corrupted"] == 0
    assert (played["schema"]["corrupted"] > 0) == (errs > 0)
    assert played["none"]["corrupted"] > played["schema"]["corrupted"]
    assert played["full"]["accuracy"] > played["none"]["accuracy"]
    assert played["full"]["accuracy"] + played["full"]["abstained"] == pytest.approx(1)  # never wrong, at worst silent


def test_the_gate_refuses_every_change_that_was_not_asked_for() -> None:
    played = {mode: claim.tables_by_slips(mode=mode, seed=77, tables=60) for mode in claim.MODES}
    assert played["full"]["invalid"] == 0 < played["schema"]["invalid"] < played["off"]["invalid"]
    assert played["full"]["valid"] > 0.3


def test_one_occurrence_refutes_what_must_never_happen() -> None:
    """A mean of 0.9997 has 1 within its interval; the claim is refuted all the same."""
    condition = claim.STUDY.asks[2]
    for invalid, verdict in (([0.0, 0.0, 0.0], "held"), ([0.0, 0.001, 0.0], "not held")):
        assert condition.measure([{"slips full": {"invalid": value}} for value in invalid]).verdict == verdict


def test_paper_is_found() -> None:
    assert find("toolgate") is toolgate.PAPER
