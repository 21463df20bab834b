"""Interpreter persistence: one state under two runtimes, paired traces, the students' rows, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
from tests.contracts.checks import check_reward

from ferrule.agents.code import CodeAct
from ferrule.core.recipe import Recipe
from ferrule.core.records import Call, Observation, Session, plain_text
from ferrule.credit.group import group_relative
from ferrule.objectives.reduce import token_mean
from ferrule.objectives.surrogate import surrogate
from ferrule.papers import find
from ferrule.papers import interpreter_persistence as persistence
from ferrule.papers.interpreter_persistence.experiment import SCALES, Cell, compare_tokens, per_thousand, run_seed
from ferrule.papers.interpreter_persistence.language import Restricted
from ferrule.papers.interpreter_persistence.students import messages_of, shuffled
from ferrule.papers.interpreter_persistence.teacher import paired_traces, teach
from ferrule.rewards.outcome import outcome
from ferrule.worlds.knapsack import Interpret, Knapsack, isolated
from ferrule.worlds.knapsack_items import instance_of

WORLD = Knapsack(face="code", interpret=Restricted)
AGENT = CodeAct(system="", turns=8, runtime=False)


def run(session: Session, code: str) -> Observation:
    return session.act(Call("python", {"code": code}))


# ---------------------------------------------------------------------------------------------------- the code face

RUNNERS = [pytest.param(Restricted, id="restricted"), pytest.param(isolated, id="isolated")]


@pytest.mark.parametrize("interpret", RUNNERS)
@pytest.mark.parametrize("persistent", [True, False])
def test_interpreter_state_and_tool_state_are_two_things(interpret: Interpret, persistent: bool) -> None:
    """x = 3, then print(x): 3 or a NameError. Inspections count on in both runtimes; a second look is free."""
    world = replace(WORLD, persistent=persistent, interpret=interpret)
    (task,) = world.tasks("train", 1, levels=[1])
    session = world.start(task)
    try:
        assert run(session, "x = 3\na = inspect(list_items()[0])").status == "ok"
        seen = run(session, "print(x)")
        if persistent:
            assert (seen.status, seen.data["stdout"], seen.data["globals"]) == ("ok", "3\n", ["a", "x"])
        else:
            assert (seen.status, seen.data["kind"], seen.data["globals"]) == ("error", "NameError", [])
        run(session, "inspect(list_items()[0])\ninspect(list_items()[1])")
        assert len(session.final()["inspected"]) == 2
    finally:
        session.close()


@pytest.mark.parametrize("interpret", RUNNERS)
def test_errors_of_the_functions_reach_the_code(interpret: Interpret) -> None:
    world = replace(WORLD, interpret=interpret)
    (task,) = world.tasks("train", 1, levels=[1])
    session = world.start(task)
    try:
        code = "try:\n take_item('nothing')\nexcept ValueError as error:\n print('refused')"
        code = code.replace(" as error", "")
        assert run(session, code).data["stdout"] == "refused\n"
        assert run(session, "take_item('nothing')").data["kind"] == "ValueError"
        made = instance_of(task.id)
        barred = [item.id for item in made.items if item.kind not in made.allowed]
        if barred:
            assert run(session, f"take_item({barred[0]!r})").data["kind"] == "PermissionError"
        best = [item.id for item in made.best]
        seen = run(session, f"for i in {best}: take_item(i)\nfinish()")
        assert seen.terminal
        assert session.final()["solved"]
    finally:
        session.close()


@pytest.mark.parametrize("interpret", RUNNERS)
def test_a_stale_global_cannot_hide_a_tool(interpret: Interpret) -> None:
    world = replace(WORLD, interpret=interpret)
    (task,) = world.tasks("train", 1, levels=[1])
    session = world.start(task)
    try:
        run(session, "inspect = 3\ntake_item = None")
        assert run(session, "print(len(inspect(list_items()[0])) > 10)").data["stdout"] == "True\n"
    finally:
        session.close()


@pytest.mark.parametrize("interpret", RUNNERS)
def test_branches_share_neither_variables_nor_the_knapsack(interpret: Interpret) -> None:
    world = replace(WORLD, interpret=interpret)
    (task,) = world.tasks("train", 1, levels=[1])
    one, first = world.start(task), instance_of(task.id).best[0].id
    run(one, "x = 1")
    two = one.fork()
    try:
        run(two, f"x = 2\ntake_item({first!r})")
        assert run(one, "print(x)").data["stdout"] == "1\n"
        assert run(two, "print(x)").data["stdout"] == "2\n"
        assert (one.final()["taken"], two.final()["taken"]) == ([], [first])
    finally:
        one.close()
        two.close()


def test_code_cannot_reach_private_items_or_change_what_was_taken() -> None:
    """What is inside the interpreter are stubs: no object of the world is reachable from them."""
    world = replace(WORLD, interpret=isolated)
    (task,) = world.tasks("train", 1, levels=[1])
    session = world.start(task)
    made = instance_of(task.id)
    try:
        code = (
            "import gc\n"
            "texts = [repr(o) for o in gc.get_objects() if type(o).__name__ in ('Vault', 'Instance', 'Item')]\n"
            "own = getattr(take_item, '__self__', None)\n"
            "print(texts, type(own).__module__.startswith('ferrule.worlds'))"
        )
        assert run(session, code).data["stdout"] == "[] False\n"
        run(session, "list_items().clear()")
        assert len(run(session, "list_items()").data["value"]) >= len(made.items)
        assert session.final()["taken"] == []
    finally:
        session.close()


# -------------------------------------------------------------------------------------------------------- the language


def ran(code: str) -> dict[str, object]:
    seen = Restricted({}).run(code)
    return {"out": seen.data["stdout"], "value": seen.data["value"], "kind": seen.data["kind"]}


PROGRAMS = (
    "d = {'a': (1, 2), 'b': (3, 1)}\ndef f(i): return d[i][0] / d[i][1]\nfor i in sorted(d, key=f, reverse=True): print(i, d[i])",
    "import json\nx = json.loads('{\"v\": [1, 2]}')\nprint(x['v'][-1], len(x), x.get('w', 5))",
    "n = 0\nfor i in range(5):\n if i % 2 == 0 and not i == 4: n += i * 3\nn",
    "def f(n):\n if n < 2: return n\n return f(n - 1) + f(n - 2)\nf(9)",
    "try:\n {}['x']\nexcept KeyError:\n print('no key')\n[1, 2, 3][1:]",
    "x, y = 1, [2]\ny.append(x)\nprint(y, sum(y), max(y), str(-x), 3 // 2, 7 % 4)",
    "print(nothing)", "1 / 0", "[][3]", "(1).real", "'a' + 1",
)  # fmt: skip


@pytest.mark.parametrize("code", PROGRAMS)
def test_programs_mean_what_they_mean_in_python(code: str) -> None:
    import contextlib
    import io

    out, kind = io.StringIO(), None
    with contextlib.redirect_stdout(out):
        try:
            exec(code, {})
        except Exception as error:
            kind = type(error).__name__
    if code == "(1).real":  # attributes are not part of the language
        kind = "AttributeError"
    found = ran(code)
    assert (found["out"], found["kind"]) == (out.getvalue(), kind)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("for i in range(9999):\n for j in range(9999): pass", "RuntimeError"),
        ("x = 'a'\nfor i in range(40): x = x + x", "MemoryError"),
        ("x = 9\nfor i in range(40): x = x * x", "OverflowError"),
        ("[0] * 10", "TypeError"),
        ("import os", "ImportError"),
        ("().__class__", "AttributeError"),
        ("x = lambda: 1", "SyntaxError"),
        ("while True: pass", "SyntaxError"),
        ("def f(): return f()\nf()", "RecursionError"),
        ("__builtins__", "NameError"),
        ("this is no program", "SyntaxError"),
    ],
)
def test_the_language_is_bounded(code: str, kind: str) -> None:
    assert ran(code)["kind"] == kind


def test_output_is_bounded() -> None:
    assert len(str(ran("for i in range(3000): print('abcdefgh')")["out"])) == 4000


# ----------------------------------------------------------------------------------------------------------- the teacher


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


# ---------------------------------------------------------------------------------------------------------- the verdict


def test_score_per_thousand_tokens() -> None:
    """75 points at 25,000 tokens are 3 points per thousand."""
    assert per_thousand(75, 25_000) == 3.0
    assert per_thousand(75, 0) == 0.0


def cell_of(scores: Sequence[float], written: int, name_errors: Sequence[bool]) -> Cell:
    n = len(scores)
    return Cell(
        tuple(scores), tuple(s == 1 for s in scores), (4,) * n, (written,) * n, (500,) * n, tuple(name_errors),
        tuple(name_errors), (True,) * n,
    )  # fmt: skip


def runs_of(*, crash: int = 9, ratio: float = 2.5, lost: float = 0.0) -> list[dict[str, dict[str, Cell]]]:
    """Three seeds of ten tasks: ``crash`` NameErrors in P->S, tokens of S->P by P->P, score that S->S loses."""
    good = [False] * 10
    cells = {
        "P->P": cell_of([0.9] * 10, 100, good),
        "P->S": cell_of([0.0] * 10, 100, [i < crash for i in range(10)]),
        "S->P": cell_of([0.9] * 10, int(100 * ratio), good),
        "S->S": cell_of([0.9 - lost] * 10, 250, good),
    }
    return [{"cells": cells, "untrue": {name: cells[name] for name in ("P->S", "S->P")}} for _ in range(3)]


def test_conditions_follow_the_data() -> None:
    assert [c.verdict for c in persistence.conditions(runs_of())] == ["held"] * 5
    assert persistence.conditions(runs_of(crash=5))[0].verdict == "not held"
    assert persistence.conditions(runs_of(ratio=1.1))[3].verdict == "not held"
    assert persistence.conditions(runs_of(lost=0.2))[4].verdict == "not held"
    assert persistence.conditions(runs_of(lost=0.2))[4].effect == pytest.approx(20)
    assert compare_tokens(runs_of()[0]["cells"]["S->P"], runs_of()[0]["cells"]["P->P"]) == 2.5


def test_reward_and_recipe() -> None:
    (task,) = WORLD.tasks("train", 1, levels=[1])
    (trace,) = paired_traces(WORLD, [task], AGENT)[True]
    (score,) = persistence.knapsack_score(task, [trace])
    assert score.value == trace.final["score"]
    assert score.parts["outcome"] == outcome(task, [trace])[0].value
    check_reward(persistence.knapsack_score)
    base = Recipe(AGENT, outcome, partial(group_relative, std="unbiased"), surrogate, token_mean)
    changed = persistence.recipe(base, persistent=False)
    assert isinstance(changed.agent, CodeAct)
    assert not changed.agent.persistent
    assert (changed.reward, changed.credit, changed.objective) == (
        persistence.knapsack_score, base.credit, base.objective,
    )  # fmt: skip


def test_claim_runs_and_repeats() -> None:
    """Two steps of training teach nothing; what is measured must still be complete and the same again."""
    first = persistence.claim("tiny")
    assert first.verdict in ("held", "not held", "undecided")
    assert set(first.arms) == {"P->P", "P->S", "S->P", "S->S", "P->S, told otherwise", "S->P, told otherwise"}
    again = run_seed(SCALES["tiny"], 1)
    assert first.setup["teacher"][1] == again["teacher"]
    for name, cell in again["cells"].items():
        assert {key: values[1] for key, values in first.arms[name].items()} == cell.summary()
    with pytest.raises(ValueError, match="known: small, tiny"):
        persistence.claim("large")


def test_stated_runtime_says_nothing_in_training() -> None:
    """Both system messages stand before traces of one regime, and nothing else of a conversation changes."""
    traces = paired_traces(WORLD, WORLD.tasks("train", 16, seed=5, levels=[1]), AGENT)
    told = {regime: [messages_of(t) for t in episodes] for regime, episodes in traces.items()}
    systems = [told[regime][0][0] for regime in (True, False)]
    mixed = shuffled(told[True], systems, seed=1)
    assert {messages[0] for messages in mixed} == set(systems)
    assert [tuple(messages[1:]) for messages in mixed] == [messages[1:] for messages in told[True]]


def test_paper_is_found() -> None:
    assert find("interpreter-persistence") is persistence.PAPER
