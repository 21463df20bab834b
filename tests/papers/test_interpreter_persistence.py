"""Interpreter persistence: paired traces, the score, the recipe, and what decides."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.contracts.checks import check_reward

from ferrule.agents.code import CodeAct
from ferrule.core.records import plain_text
from ferrule.papers import find
from ferrule.papers import interpreter_persistence as persistence
from ferrule.papers.claims import interpreter_persistence as claim
from ferrule.papers.interpreter_persistence import paired_traces, per_thousand, teach
from ferrule.rewards.outcome import outcome
from ferrule.sandbox.restricted import Restricted
from ferrule.studies.conditions import Rows
from ferrule.train.grpo import grpo
from ferrule.worlds.knapsack import Knapsack, isolated
from ferrule.worlds.knapsack_items import instance_of

WORLD = Knapsack(face="code", interpret=Restricted)
AGENT = CodeAct(system="", turns=8, runtime=False)


def test_paired_traces_differ_in_code_alone() -> None:
    """The same items are inspected and taken in the same order; only the persistent ones name earlier variables."""
    tasks = WORLD.tasks("train", 12, seed=3, levels=(1, 2))
    traces = paired_traces(WORLD, tasks, AGENT)
    for kept, reset in zip(traces[True], traces[False], strict=True):
        assert kept.final == reset.final
        assert len(kept.turns) == len(reset.turns)
        codes = ["\n".join(str(call.arguments["code"]) for call, _ in t.calls) for t in (kept, reset)]
        assert codes[0].count("def look") == 1
        assert codes[1].count("def look") == -(-instance_of(kept.task.id).inspections // 2)
        assert len(codes[1]) > 1.5 * len(codes[0])
        assert all(o.status == "ok" for t in (kept, reset) for _, o in t.calls)


def test_the_teacher_crashes_in_the_wrong_runtime() -> None:
    """The persistent teacher's second block names d, which a reset interpreter has lost."""
    (task,) = WORLD.tasks("train", 1, levels=[1])
    (trace,) = paired_traces(WORLD, [task], AGENT)[True]
    session = replace(WORLD, persistent=False).start(task)
    seen = [session.act(call) for call, _ in trace.calls]
    assert [o.data["kind"] for o in seen[:2]] == [None, "NameError"]


def test_traces_run_the_same_in_full_python() -> None:
    """The language is a subset of Python: real interpreters give the teacher's blocks the same outcomes."""
    (task,) = WORLD.tasks("train", 1, levels=[1])
    for persistent, (trace,) in paired_traces(WORLD, [task], AGENT).items():
        session = replace(WORLD, persistent=persistent, interpret=isolated).start(task)
        try:
            for call, stated in trace.calls:
                seen = session.act(call)
                assert (seen.status, seen.data["stdout"]) == ("ok", stated.data["stdout"])
            assert session.final() == trace.final
        finally:
            session.close()


def test_a_teacher_is_told_the_truth() -> None:
    with pytest.raises(ValueError, match="world is persistent"):
        teach(WORLD, [], replace(AGENT, persistent=False))


def test_outcomes_are_what_the_teacher_read() -> None:
    (task,) = WORLD.tasks("train", 1, levels=[1])
    (trace,) = paired_traces(WORLD, [task], AGENT)[False]
    shown = json.loads(plain_text(trace.turns[1].messages[0]))
    assert list(shown) == ["success", "result", "output", "error"]
    assert shown["output"].startswith("{'")


def test_score_per_thousand_tokens() -> None:
    """75 points at 25,000 tokens are 3 points per thousand."""
    assert per_thousand(75, 25_000) == 3.0
    assert per_thousand(75, 0) == 0.0


def rows_of(*, crash: float = 0.9, ratio: float = 2.5, lost: float = 0.0) -> Rows:
    """One seed: share of NameErrors in P->S, tokens of S->P by P->P, and points that S->S loses."""
    return {
        "P->P": {"score": 90.0, "tokens": 100.0, "name_errors": 0.0},
        "P->S": {"score": 0.0, "tokens": 100.0, "name_errors": crash},
        "S->P": {"score": 90.0, "tokens": 100.0 * ratio, "name_errors": 0.0},
        "S->S": {"score": 90.0 - lost, "tokens": 250.0, "name_errors": 0.0},
        "P->S, told otherwise": {"name_errors": crash},
        "S->P, told otherwise": {"tokens": 100.0 * ratio},
    }


def verdicts(**changes: float) -> list[str]:
    return [ask.measure([rows_of(**changes)] * 3).verdict for ask in claim.STUDY.asks if ask.decides]


def test_conditions_follow_the_data() -> None:
    assert verdicts() == ["held"] * 5
    assert verdicts(crash=0.5)[0] == "not held"
    assert verdicts(ratio=1.1)[3] == "not held"
    assert verdicts(lost=20.0)[4] == "not held"
    assert verdicts(lost=-20.0)[4] == "not held"
    assert claim.STUDY.asks[4].measure([rows_of(lost=20.0)] * 3).effect == pytest.approx(20)


def test_reward_and_recipe() -> None:
    (task,) = WORLD.tasks("train", 1, levels=[1])
    (trace,) = paired_traces(WORLD, [task], AGENT)[True]
    (score,) = persistence.knapsack_score(task, [trace])
    assert score.value == trace.final["score"]
    assert score.parts["outcome"] == outcome(task, [trace])[0].value
    check_reward(persistence.knapsack_score)
    base = grpo()
    changed = persistence.recipe(base, persistent=False)
    assert isinstance(changed.agent, CodeAct)
    assert not changed.agent.persistent
    assert (changed.reward, changed.credit, changed.objective) == (
        persistence.knapsack_score, base.credit, base.objective,
    )  # fmt: skip


def test_paper_is_found() -> None:
    assert find("interpreter-persistence") is persistence.PAPER
