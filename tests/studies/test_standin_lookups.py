"""Chains of look-ups: what they take when nothing goes wrong."""

from __future__ import annotations

from ferrule.agents.gate import ToolGate
from ferrule.rollout.drive import drive
from ferrule.studies.standins import lookups
from ferrule.tools.contracts import State
from ferrule.worlds.gated import Gated
from ferrule.worlds.wrap import Wrapped


def test_without_faults_and_with_a_perfect_chooser_four_calls_do() -> None:
    world = lookups.Chains(0.0)
    tasks = world.tasks("train", 5, seed=3)
    entities = Wrapped(
        world, lambda s, t, seed: Gated(s, lookups.chain_contracts("full"), State.of(t.meta["entities"]))
    )
    for played in drive(ToolGate(retrieve=lookups.named), tasks, entities, lookups.chooser(right=1.0)):
        final = played.trajectories[0].final["gate"]
        assert played.trajectories[0].answer == played.task.answer == final["facts"]["courier"]
        assert [entry["tool"] for entry in final["trace"]] == [
            "find_customer",
            "find_city",
            "find_depot",
            "find_courier",
        ]
