"""MACRO: the worked examples of rewards and memory, discovery on the way, and the claim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.agents.composing import discovering, logs_of, named_composites
from ferrule.agents.react import ToolLoop
from ferrule.agents.remembering import Remembering
from ferrule.core.records import Call, Message, Observation, Score, Task, Trajectory, Turn
from ferrule.papers import macro
from ferrule.papers.claims.macro import STUDY, Chains, first, second
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.studies.table import plain
from ferrule.tools.forge_composite import ArgumentSource, Composite, CompositeStep
from ferrule.tools.tool import tool
from ferrule.worlds.session import Toolbox


def test_advantages() -> None:
    """Worked example 3: mean 1/4, spread sqrt(3)/4 = 0.4330127; (1 - 0.25) / 0.4330137 = 1.732047."""
    turn_NT = np.zeros((4, 1), dtype=np.int64)
    got = macro.advantages(np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(4, dtype=np.int64), turn_NT)[:, 0]
    assert got == pytest.approx([1.732047, -0.577349, -0.577349, -0.577349], abs=1e-6)
    assert not macro.advantages(np.ones(4), np.zeros(4, dtype=np.int64), turn_NT).any()


def test_tools_are_scored_by_similar_images() -> None:
    """Worked example 4: cosines 1 and 0.8 are nearest, of which the first succeeded: 1 / 1.8."""
    memory = [((1.0, 0.0), "seg", True), ((0.8, 0.6), "seg", False), ((0.0, 1.0), "cls", True)]
    assert macro.image_scores(memory, (1.0, 0.0), k=2) == {"seg": pytest.approx(0.555556, abs=1e-6)}
    assert macro.image_scores(memory, (1.0, 0.0), k=3)["cls"] == 0.0
    assert macro.image_scores([((-1.0, 0.0), "seg", True)], (1.0, 0.0)) == {"seg": 0.0}
    assert macro.image_scores(memory, (0.0, 0.0)) == {"seg": 0.0, "cls": 0.0}


@tool
def find(name: str) -> dict[str, int]:
    """Find the number of a person."""
    return {"id": len(name)}


@tool
def age(person: int) -> int:
    """Age of the person with a number."""
    if person > 9:
        raise ValueError("too old")
    return 30 + person


WORLD = Toolbox((find, age))


def said(*calls: Call) -> Message:
    return Message("assistant", "", calls)


def played(name: str, answer: str, agent: Any) -> Any:
    replies = [
        said(Call("find", {"name": name})),
        said(Call("age", {"person": len(name)})),
        answer,
    ]
    (episode,) = drive(agent, [Task(name, f"How old is {name}?", "33")], WORLD, Scripted(replies))
    return episode


def test_what_verified_runs_show_is_on_offer_next_time() -> None:
    memory = discovering((find, age), support=2)
    agent = Remembering(ToolLoop(), memory)
    task = Task("t", "How old is Eva?", "33")
    wrong, right = played("Bob", "99", agent), [played(name, "33", agent) for name in ("Ann", "Peter")]
    memory.keep(wrong, [Score(0.0)])
    memory.keep(right[0], [Score(1.0)])
    assert memory.recall(task, ()).tools == ()  # type: ignore[union-attr]
    memory.keep(right[1], [Score(1.0)])
    assert memory.recall(task, ()).tools[0].name == "find_age"  # type: ignore[union-attr]
    calls = [said(Call("find_age", {"name": "Eva"})), "33"]
    (episode,) = drive(agent, [task], WORLD, Scripted(calls))
    path = episode.trajectories[0]
    assert path.calls[0][1].text == "33"
    memory.keep(episode, [Score(1.0)])  # its inner calls count, so that composites are made of primitives
    assert memory.state is not None
    assert [log.names for log in logs_of(memory.state())] == [("find", "age")] * 4
    again = discovering((find, age), support=2)
    assert again.load is not None
    again.load(memory.state())
    assert again.recall(task, ()).tools[0].parameters == memory.recall(task, ()).tools[0].parameters  # type: ignore[union-attr]


def path(answer: str, *pairs: tuple[Call, Observation]) -> Trajectory:
    reply = Message("assistant", "", tuple(call for call, _ in pairs))
    turn = Turn(0, None, (), (), (), reply, observations=tuple(seen for _, seen in pairs))
    return Trajectory(Task("t", "", "33"), (turn,), answer)


def test_composites_are_paid_for_with_right_answers_only() -> None:
    inner = [{"name": name, "arguments": {}, "status": "ok", "text": "", "result": 1} for name in ("find", "age")]
    composite = (Call("find_age"), Observation("33", data={"result": 33, "calls": inner}))
    failed = (Call("age"), Observation("too old", "error"))
    paths = [path("33", composite), path("33"), path("99", composite), path("33", composite, failed)]
    scores = macro.composite_bonus(Task("t", "", "33"), paths)
    assert [score.value for score in scores] == pytest.approx([1.1, 1.0, 0.0, 1.05])
    assert scores[3].parts["penalty"] == -0.05


def test_a_writer_names_composites() -> None:
    steps = (CompositeStep("find", {"name": ArgumentSource("name")}), CompositeStep("age", {}))
    two = [Composite("find_age", steps), Composite("age_find", steps[::-1])]
    box: list[Any] = []

    def agent(task: Task, session: object) -> Any:
        box.append((yield from named_composites(two, (find, age))))

    drive(agent, [Task("t", "")], WORLD, {"writer": Scripted(["1. age_of: Age of a person.\nfind: taken"])})
    assert [(one.name, one.description) for one in box[0]] == [("age_of", "Age of a person."), ("age_find", "")]


def test_the_recipe_discovers_and_reinforces() -> None:
    recipe = macro.recipe(plain(), (find, age))
    assert isinstance(recipe.agent, Remembering)
    assert recipe.credit is macro.advantages
    assert recipe.num_generations == 8


def test_the_chance_of_a_chain_counts_all_ways() -> None:
    """With all six primitives alike a chain of two has the chance 1/36; a composite of it adds 1/7 to 1/49."""
    assert Chains(((0, 1),)).success(np.full((2, 6), 1 / 6)) == pytest.approx(1 / 36)
    assert Chains(((0, 1),), ((0, 1),)).success(np.full((2, 7), 1 / 7)) == pytest.approx(1 / 7 + 1 / 49)


def test_composites_matter_where_they_fit() -> None:
    """The ablation: mined composites raise the chance of longer chains from the start, random ones do not."""
    how = {"seed": 0, "learn": 150, "steps": 8}
    none, verified, others = (second(**how, mined=kind)["last"] for kind in ("", "verified", "random"))
    assert verified > 20 * none
    assert verified > 5 * others
    assert first(seed=0, learn=20, steps=0, composites=False)["steps"] == 20.0


def test_the_claim_names_what_decides() -> None:
    assert STUDY.paper == macro.PAPER.slug
    assert [condition.decides for condition in STUDY.asks] == [True, True, True, False]
