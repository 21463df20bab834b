"""Chain of Tools: the worked examples of schemas, documents by probing, and the claim."""

from __future__ import annotations

import pytest

from ferrule.core.recipe import Recipe
from ferrule.core.records import plain_text
from ferrule.papers import atc
from ferrule.papers.claims.atc import STUDY, chains, probing
from ferrule.policies.scripted import Scripted
from ferrule.studies.standins.nested_tools import Chains
from ferrule.studies.table import plain
from ferrule.tools.overlay import apply
from ferrule.tools.results import induced, outline, typed


def test_schemas_of_results() -> None:
    """Worked examples 1 and 2."""
    result = {"a": 1, "b": [{"c": "x", "d": [1.5, 2]}, {"e": 1}], "f": [], "g": None, "h": True}
    assert typed(induced(result, first=True)) == {
        "a": "int", "b": [{"c": "str", "d": ["float"]}], "f": [], "g": "NoneType", "h": "bool",
    }  # fmt: skip
    text = outline(induced({"a": 1, "b": [{"c": "x"}], "f": []}, first=True), "execution result")
    assert text.splitlines() == [
        "- execution result: dict", "\t- a: int", "\t- b: list", "\t\t- b[0]: dict", "\t\t\t- c: str", "\t- f: list",
    ]  # fmt: skip


def test_documents_come_from_probing() -> None:
    """The first step of a chain works alone; what it returns stands in its document from then on."""
    world = Chains(documented=False)
    (task,) = world.tasks("train", 1)
    start = task.meta["values"][0]

    def write(ask: object, sample: int) -> str:
        text = plain_text(ask.messages[0])  # type: ignore[attr-defined]
        if "step_1(" not in text:
            return "```python\nraise ValueError('no value')\n```"
        return f"Query: begin\n```python\nimport json\nprint(json.dumps(step_1(value={start!r})))\n```"

    probed, overlay = atc.probed_documents(world, {"prober": Scripted(write)}, task=task, rounds=0)
    assert [one.tool for one in probed] == ["step_1"]
    worded = apply(world.start(task).tools, overlay)[0]
    assert task.meta["places"][0][1] in worded.description
    assert worded.output is not None


def test_a_recipe_trains_programs() -> None:
    recipe = atc.recipe(plain(), attribute=True)
    assert isinstance(recipe, Recipe)
    assert (recipe.agent.tries, recipe.agent.attribute) == (3, True)  # type: ignore[attr-defined]


def test_probing_covers_more_with_the_right_helpers() -> None:
    """Roots alone at first, whoever helps; then the needed helpers do more than three random ones."""
    picked, others = (probing(seed=3, tools=40, tasks=0, picked=picked) for picked in (True, False))
    assert picked["after round 0"] == pytest.approx(others["after round 0"], abs=0.1)
    assert picked["after round 2"] > others["after round 2"] + 0.2
    rounds = [picked[f"after round {lap}"] for lap in range(5)]
    assert rounds == sorted(rounds)


def test_schemas_and_repairs_make_chains_work() -> None:
    """The ablations of the agent differ where they should."""
    how = {"seed": 0, "tools": 0, "tasks": 8}
    with_schemas = chains(**how, described=True, tries=3)["success"]
    assert with_schemas >= 0.75
    assert chains(**how, described=False, tries=3)["success"] <= 0.25
    assert chains(**how, described=True, tries=1)["success"] < with_schemas
    assert chains(**how, described=True, tries=3, reviewer="reads")["named"] == 1.0


def test_the_claim_names_what_decides() -> None:
    assert STUDY.paper == atc.PAPER.slug
    assert [condition.threshold for condition in STUDY.asks] == [0.25, 0.25, 0.0, 0.1]
