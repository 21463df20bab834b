"""Tool Learning with Large Language Models: A Survey (30), May 2024.

https://arxiv.org/abs/2405.17935

The survey orders methods by a workflow of four stages (plan, select, call, respond), run at once or step by step, and
benchmarks and metrics by the stage that they test. Here the stages are values of an agent, ``ferrule.agents.stages``:
one run leaves a record of each, ``ferrule.evaluate.stages.profile`` measures all of them, ``first_failure`` says where
a wrong run went wrong, and ``replaced`` puts the right stage in the place of one.

Departures from the paper:

1. The paradigms, the definitions of the stages and the challenges are recollections of the paper; metrics are the
   standard ones, computed independently.
2. The record of a run is a form of our own: query, needs_tool, subtasks, selection, calls, response.
3. Prompts of the stages that ask a model are in words of our own.
4. Recall and completeness take equivalent tools as different; ``folded`` counts each class of them as one.
5. ``pass_rate`` is the share of runs whose answer is right. A run that gives up a request that cannot be solved is
   not right, unless that is its expected answer.
6. The win rate is ``ferrule.rewards.tooleval``, whose judge sees both orders.
7. ``BENCHMARKS`` are the survey's numbers of tools and instances; two different sets are called ToolBench.
8. Measures of selection and of arguments are means over the parts of all runs, not over queries.
9. The claim replaces stages of a script that errs as often as it is told. Its retrievers are drawn scores, between
   much noise and a discount of further tools, in place of trained ones, a model or BM25.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.agents.gold import oracles
from ferrule.agents.stage_parts import asked_stages, inserted, integrated, listed, planned, ranked, written
from ferrule.agents.stages import Iterative, OneStep, StageRecord, Stages, alone, replaced
from ferrule.core.recipe import Recipe, vary
from ferrule.evaluate.stages import first_failure, profile
from ferrule.studies.paper import Paper

__all__ = ["BENCHMARKS", "PAPER", "Benchmark", "folded", "iterative", "losses", "one_step", "recipe"]


@dataclass(frozen=True)
class Benchmark:
    """What the survey says of a benchmark: what it tests, its numbers of tools and instances, and its world here."""

    tests: str
    tools: int
    instances: int
    world: str = ""


BENCHMARKS: Mapping[str, Benchmark] = {
    "API-Bank": Benchmark("general", 73, 314, "api_bank"),
    "APIBench": Benchmark("general", 1_645, 16_450),
    "ToolBench-1": Benchmark("general", 232, 2_746),
    "ToolAlpaca": Benchmark("general", 426, 3_938),
    "RestBench": Benchmark("general", 94, 157, "restbench:tmdb"),
    "ToolBench-2": Benchmark("general", 16_464, 126_486),
    "MetaTool": Benchmark("plan, select", 199, 21_127),
    "T-Eval": Benchmark("each stage", 15, 533),
    "ToolEyes": Benchmark("general", 568, 382),
    "UltraTool": Benchmark("general", 2_032, 5_824),
    "Seal-Tools": Benchmark("general", 4_076, 14_076),
    "ToolQA": Benchmark("questions", 13, 1_530),
    "ToolTalk": Benchmark("dialogue", 28, 78),
    "RoTBench": Benchmark("robustness", 568, 105),
    "ToolLens": Benchmark("complete retrieval", 464, 18_770),
    "ToolSandbox": Benchmark("state", 34, 1_032),
    "AppWorld": Benchmark("state", 457, 750, "apps"),
    "NESTOOLS": Benchmark("nested calls", 3_034, 1_000),
    "ToolHop": Benchmark("several hops", 3_912, 995),
    "ToolComp": Benchmark("steps", 11, 485),
    "ToolRet": Benchmark("retrieval", 43_000, 7_600),
}
"""The benchmarks that the survey names with numbers; ``apps`` is a world of AppWorld's kind, not its data."""


def folded(ranking: Iterable[str], classes: Sequence[Sequence[str]]) -> list[str]:
    """Return a ranking in which each tool is the first of its class of equivalent ones, and each class comes once."""
    first = {name: members[0] for members in classes for name in members}
    return list(dict.fromkeys(first.get(name, name) for name in ranking))


def one_step(stages: Stages | None = None, *, k: int = 5) -> OneStep:
    """Return the one-step paradigm: plan and select once, then execute. ``stages`` of None are those of one model."""
    return OneStep(stages or asked_stages(most=20), k)


def iterative(stages: Stages | None = None, *, k: int = 5, steps: int = 8, retries: int = 1) -> Iterative:
    """Return the iterative paradigm: after each call observe and plan anew, at most ``steps`` times."""
    return Iterative(stages or asked_stages(most=20), k, steps, retries)


def losses(
    records: Sequence[StageRecord], right: Sequence[bool], gold_of: Callable[[Any], Any]
) -> dict[str, float]:  # fmt: skip
    """Return the share of runs lost at each stage, by the first that failed; together they are ``1 - pass rate``.

    Raises ``ValueError`` without runs, and for lists of different length.
    """
    if not records:
        raise ValueError("losses needs one run at least")
    failed = [first_failure(r, gold_of(r.task), ok) for r, ok in zip(records, right, strict=True)]
    return {stage: failed.count(stage) / len(failed) for stage in ("plan", "select", "call", "respond")}


def recipe(base: Recipe, **settings: Any) -> Recipe:
    """Return ``base`` whose episodes are played in four stages by the model that learns (``iterative``)."""
    return vary(base, agent=iterative(**settings))


PAPER = Paper(
    number=30,
    slug="tool-survey",
    title="Tool Learning with Large Language Models: A Survey",
    date="2024-05",
    url="https://arxiv.org/abs/2405.17935",
    pieces={
        "plan": planned, "select": ranked, "choose": listed, "call": written, "respond": integrated, "insert": inserted,
        "one_step": one_step, "iterative": iterative, "oracles": oracles, "replaced": replaced, "alone": alone,
        "profile": profile, "losses": losses, "folded": folded, "recipe": recipe,
    },
    summary="Plan, select, call and respond as stages that are measured and replaced one by one.",
    reported="A survey; it reports no experiment of its own.",
)  # fmt: skip
