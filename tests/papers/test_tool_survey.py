"""The tool survey: one run gives the profile of its stages, and the first failing stage is where an oracle helps.

The worked examples of the metrics are in ``tests/evaluate/test_stages.py``, beside the metrics.
"""

from __future__ import annotations

import pytest

from ferrule.agents.gold import Gold, oracles
from ferrule.agents.stages import OneStep, StageRecord, alone, record_of, replaced
from ferrule.core.records import Task
from ferrule.evaluate.ranking import complete, recall
from ferrule.evaluate.stages import profile
from ferrule.papers.claims.tool_survey import STUDY
from ferrule.papers.tool_survey import BENCHMARKS, folded, iterative, losses, one_step, recipe
from ferrule.rollout.drive import drive
from ferrule.studies.standins.staged import StagedTools, echo, erring, gold_of
from ferrule.studies.table import plain
from ferrule.worlds.named import world_names


def _records(stages: object, count: int = 40, busy: float = 0.0) -> tuple[list[StageRecord], list[bool]]:
    world = StagedTools(busy)
    episodes = drive(OneStep(stages), world.tasks("test", count), world, echo())  # type: ignore[arg-type]
    paths = [episode.trajectories[0] for episode in episodes]
    return [record for path in paths if (record := record_of(path))], [p.answer == p.task.answer for p in paths]


def test_each_stage_that_errs_is_found_by_attribution_and_mended_by_its_oracle() -> None:
    """A stage that always fails loses every request that needs a tool (3 of 4), at that stage; its oracle mends all."""
    for stage in ("plan", "select", "call"):
        bad = erring({stage: 1.0}, 0)
        records, right = _records(bad)
        assert losses(records, right, gold_of)[stage] == 0.75
        assert sum(losses(records, right, gold_of).values()) == 0.75
        assert all(_records(replaced(bad, stage, oracles(gold_of)))[1])
        others = [each for each in ("plan", "select", "call") if each != stage]
        assert not any(_records(replaced(bad, each, oracles(gold_of)))[1][1] for each in others)
    with pytest.raises(ValueError, match="one run at least"):
        losses([], [], gold_of)
    records, right = _records(erring({"respond": 1.0}, 0))
    assert losses(records, right, gold_of)["respond"] == 1.0


def test_a_stage_is_measured_on_right_inputs_and_on_those_of_the_run() -> None:
    """Where plans fail at the first part, a selection that fails there too is only seen on right plans.

    Requests need 0, 1, 2 and 3 tools in turn, 6 parts in all; of these the 3 first ones lack their tool.
    """
    stages = erring({"plan": 1.0, "select": 1.0}, 0)
    measured = {}
    for name, played in (("of the run", stages), ("right", alone(stages, "select", oracles(gold_of)))):
        records, right = _records(replaced(played, "respond", stages))
        measured[name] = profile(records, [gold_of(record.task) for record in records], right, ks=(1,))
    assert (measured["of the run"]["comp@1"], measured["right"]["comp@1"]) == (1.0, 0.5)
    assert (measured["of the run"]["plan_accuracy"], measured["right"]["plan_accuracy"]) == (0.0, 1.0)


def test_equivalent_tools_count_as_one() -> None:
    ranking = folded(["sum", "add", "mean"], [("add", "sum")])
    assert ranking == ["add", "mean"]
    gold = set(folded({"sum", "mean"}, [("add", "sum")]))
    assert (recall(ranking, gold, 2), complete(ranking, gold, 2)) == (1.0, 1.0)


def test_paradigms_have_the_defaults_of_the_survey() -> None:
    loop = iterative()
    assert (loop.k, loop.steps, loop.retries, one_step().k) == (5, 8, 1, 5)
    assert isinstance(recipe(plain(), steps=3).agent, type(loop))
    with pytest.raises(TypeError):
        iterative(rounds=3)  # type: ignore[call-arg]


def test_benchmarks_are_those_named_and_their_worlds_exist() -> None:
    assert (BENCHMARKS["RestBench"].tools, BENCHMARKS["RestBench"].instances) == (94, 157)
    assert BENCHMARKS["ToolBench-1"].tools != BENCHMARKS["ToolBench-2"].tools
    assert {entry.world for entry in BENCHMARKS.values()} - {""} <= set(world_names())


def test_plans_at_once_lose_what_busy_tools_lose_and_plans_step_by_step_do_not() -> None:
    """The ablation that must differ: with a busy tool the loop calls again."""
    rows = STUDY.arms["paradigms"](seed=3, queries=40, retrievers=1)
    assert rows["one step 0"] == rows["iterative 0"] == 1.0
    assert rows["one step 0.4"] < 0.8 < rows["iterative 0.4"]


def test_requests_say_their_parts_in_other_words_than_the_tools() -> None:
    task = StagedTools().tasks("test", 4, seed=1)[3]
    gold = gold_of(task)
    assert isinstance(gold, Gold)
    assert len(gold.subtasks) == 3
    for part in gold.subtasks:
        (name,) = gold.tools[part.id]
        assert not set(name.split("_")) & set(part.text.split())
        assert part.text in task.prompt
    assert isinstance(task, Task)
    assert StagedTools().tasks("test", 1)[0].answer == "nothing"
