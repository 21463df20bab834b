"""ToolGate: the released agent, and what a gate does that an open door does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from ferrule.agents.gate import CALL, ToolGate
from ferrule.core.records import Task, Tool
from ferrule.papers import find, toolgate
from ferrule.papers.claims import toolgate as claim
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.studies import golden
from ferrule.studies.standins import lookups
from ferrule.tools.contracts import Contract, State
from ferrule.train.grpo import grpo
from ferrule.worlds.apis import Apis
from ferrule.worlds.apis_contracts import api_contracts
from ferrule.worlds.session import Toolbox

GOLDENS = Path(__file__).parents[2] / "claims" / "goldens"

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


def spoilt(condition: str) -> dict[str, tuple[str, ...]]:
    """Return what may stand in the place of a condition: nothing, or the opposite."""
    return {"dropped": (), "turned": (f"not ({condition})",)}


def without(contracts: Mapping[str, Contract], condition: str, instead: tuple[str, ...]) -> dict[str, Contract]:
    """Return contracts with something else in the place of a condition."""

    def put(conditions: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(text for one in conditions for text in (instead if one == condition else (one,)))

    return {name: replace(one, pre=put(one.pre), post=put(one.post)) for name, one in contracts.items()}


def seen_by_a_golden(arms: Sequence[str]) -> bool:
    """Whether one of the arms no longer computes its golden; how many conditions there are does not count."""
    stored = golden.read(GOLDENS, "toolgate")["arms"]
    for arm in arms:
        for line in golden.differences(stored[arm], golden.golden(claim.STUDY, arm)):
            if ", conditions:" not in line:
                return True
    return False


NEVER_FALSE = "exists(order)"
"""The order is known from the start, so nothing can tell whether the first look-up asks for it."""
LOOK_UPS = [condition for one in lookups.chain_contracts("full").values() for condition in (*one.pre, *one.post)]
SLIPS = [arm for arm in claim.STUDY.arms if arm.startswith("slips ") and arm != "slips off"]
TABLES = sorted({
    condition
    for task in Apis().tasks("test", 2, levels=(4, 5))
    for one in api_contracts(task)[0].values()
    for condition in (*one.pre, *one.post)
})  # fmt: skip


@pytest.mark.parametrize("condition", LOOK_UPS)
def test_a_condition_of_the_look_ups_cannot_be_dropped_or_turned(
    condition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = claim.chain_contracts
    for name, instead in spoilt(condition).items():
        if condition == NEVER_FALSE and not instead:
            continue
        monkeypatch.setattr(
            claim, "chain_contracts", lambda kind, instead=instead: without(real(kind), condition, instead)
        )
        assert seen_by_a_golden(["full 30%", "full 15%", "schema 30%"]), f"{condition}: {name}"


@pytest.mark.parametrize("condition", TABLES)
def test_a_condition_of_the_tables_cannot_be_dropped_or_turned(condition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = claim.api_contracts

    def changed(task: Task, instead: tuple[str, ...]) -> tuple[dict[str, Contract], State]:
        contracts, state = real(task)
        return without(contracts, condition, instead), state

    for name, instead in spoilt(condition).items():
        monkeypatch.setattr(claim, "api_contracts", partial(changed, instead=instead))
        assert seen_by_a_golden(SLIPS), f"{condition}: {name}"


def test_the_goldens_see_the_contracts_as_they_are() -> None:
    assert not seen_by_a_golden(["full 30%", *SLIPS])


def test_one_occurrence_refutes_what_must_never_happen() -> None:
    """A mean of 0.9997 has 1 within its interval; the claim is refuted all the same."""
    condition = claim.STUDY.asks[2]
    for invalid, verdict in (([0.0, 0.0, 0.0], "held"), ([0.0, 0.001, 0.0], "not held")):
        assert condition.measure([{"slips full": {"invalid": value}} for value in invalid]).verdict == verdict


def test_paper_is_found() -> None:
    assert find("toolgate") is toolgate.PAPER
