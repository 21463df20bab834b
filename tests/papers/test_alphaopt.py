"""AlphaOPT: what became of a program, retrieval in two stages, merges that must solve their tasks, and the study."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from ferrule.agents.refine import settled
from ferrule.core.flows import Ask
from ferrule.core.records import Task, plain_text
from ferrule.memory.entries import Change, Entry, Origin
from ferrule.memory.insights import Solved
from ferrule.memory.library import Library
from ferrule.memory.taxonomy import labels_in
from ferrule.papers.alphaopt import STAGES, applicable, judged, merged, optimal_value, picked, retrieve
from ferrule.papers.claims.alphaopt import STUDY
from ferrule.policies.scripted import Scripted
from ferrule.rollout.settle import settle
from ferrule.studies.standins.pitfalls import Modeller, Pitfalls, applies_to

TASK = Task("t", "Ship goods at least cost.")


def test_what_became_of_a_program() -> None:
    """Worked example 1."""
    assert judged(6000.05, 6000) == "optimal"
    assert judged(6000.2, 6000) == "not_optimal"
    assert judged("infeasible", 6000) == "failure_solve"
    assert judged("...", 6000, timed_out=True) == "solver_time_out"
    assert judged("Traceback", 6000, ran=False) == "run_error"
    assert judged(6000, 6000) == "optimal", "an integer is a number"
    assert judged(6000.2, 6000, relative=1e-3) == "optimal"
    assert judged("Optimal value: 6,000.05\n", 6000) == "optimal"


@pytest.mark.parametrize(
    ("text", "value"),
    [("Optimal value: 12", 12.0), ("optimal value = -1.5e3", -1500.0), ("Optimal value: 1\nOptimal value: 2", 2.0),
     ("Optimal value: none", None), ("value: 3", None), ("Optimal value:.5", 0.5)],
)  # fmt: skip
def test_the_printed_value_is_read(text: str, value: float | None) -> None:
    assert optimal_value(text) == value


def entries() -> list[Entry]:
    bounds = labels_in({STAGES[1]: {"Variable Definition": ["Integrality", "Bounds"]}})
    return [
        Entry("E1", "x", "whole units", labels=bounds),
        Entry("E2", "y", "routes", labels=labels_in({STAGES[0]: {"Routing": ["MTZ"]}})),
    ]


def test_retrieval_goes_by_labels_and_then_by_conditions() -> None:
    taxonomy = {
        STAGES[1]: {"Variable Definition": {"Bounds": {}, "Integrality": {}}},
        STAGES[0]: {"Routing": {"MTZ": {}}},
    }
    asked: list[str] = []

    def script(request: Ask, sample: int) -> str:
        asked.append(plain_text(request.messages[0]))
        return '{"General Formulation": {"Variable Definition": ["Bounds"]}}' if "labels" in asked[-1] else '["E1"]'

    def found(*replies: str) -> list[str]:
        policy = Scripted(list(replies)) if replies else Scripted(script)
        result = settle([retrieve(TASK, entries(), taxonomy)], {"retriever": policy}).values[0]
        return [entry.id for entry in result or ()]

    assert found() == ["E1"]
    assert "E1 (General Formulation/Variable Definition/Integrality" in asked[1]
    assert "E2" not in asked[1]
    for odd in ("null", "3", '{"Bounds": 1}', '"Bounds"'):
        found(f'{{"General Formulation": {{"Variable Definition": {odd}}}, "Domain Modeling": []}}', "[]")
    assert found("{}") == [], "without labels nothing is retrieved, and no second question asked"
    assert found('{"General Formulation": {"Variable Definition": ["Bounds"]}}', "[]") == []
    assert settle([picked(TASK, taxonomy)], {"retriever": Scripted(["no object"])}).values == ({},)


def test_conditions_are_checked_in_batches_and_unreadable_replies_keep_all() -> None:
    many = [Entry(f"E{number}", "x") for number in range(1, 8)]
    unquoted = settle([applicable(TASK, many[:2])], {"retriever": Scripted(["[E2]"])}).values[0]
    assert [entry.id for entry in unquoted or ()] == ["E1", "E2"], "brackets alone are no list"
    replies = ['["E2"]', "cannot say", '["E7", "E99"]']
    result = settle([applicable(TASK, many, batch=3)], {"retriever": Scripted(replies)}).values[0]
    assert [entry.id for entry in result or ()] == ["E2", "E4", "E5", "E6", "E7"]


def test_only_merges_that_solve_all_their_tasks_are_carried_out() -> None:
    """Worked example 5: A comes from tasks 0 and 1, B from 2 and 3; A does not solve its tasks."""
    library = Library()
    for number in range(4):
        library.add(f"i{number}", origins=[Origin(str(number))])
    tried: list[tuple[str, str]] = []

    def solve(task: Task, shown: Sequence[Entry]) -> Solved:
        tried.append((shown[0].text, task.id))
        return Solved(shown[0].text == "B")

    changes = [Change("merge", ("E1", "E2"), "A"), Change("merge", ("E3", "E4"), "B")]
    tasks = {str(number): Task(str(number), "") for number in range(4)}
    written = settled(merged(library, changes, tasks, solve))
    assert [entry.text for entry in written] == ["B"]
    assert [entry.text for entry in library.entries()] == ["i0", "i1", "B"], "the unmerged originals of A stay"
    assert tried == [("A", "0"), ("A", "0"), ("B", "2"), ("B", "3")]


def test_merges_of_unknown_tasks_and_entries_prove_nothing_and_notes_of_a_person_need_no_proof() -> None:
    library = Library()
    for task in ("", "1", "elsewhere"):
        library.add("x", origins=[Origin(task)])
    library.delete(library.add("gone").id)

    def solve(task: Task, shown: Sequence[Entry]) -> Solved:
        return Solved(True)

    pairs = (("E1", "E3"), ("E1", "E9"), ("E1", "E4"), ("E1", "E2"))
    changes = [Change("merge", pair, "/".join(pair)) for pair in pairs]
    written = settled(merged(library, changes, {"1": Task("1", "")}, solve))
    assert [entry.text for entry in written] == ["E1/E2"]


# ---------------------------------------------------------------------------------------------------------------- study


def test_drawn_tasks_hold_pitfalls_and_more_begin_with_fewer() -> None:
    tasks = Pitfalls(0).tasks("train", 400)
    assert Pitfalls(0).tasks("train", 10) == tasks[:10]
    assert all(len(set(task.prompt.split())) == 8 for task in tasks)
    assert 0.2 < sum(task.meta["pitfall"] < 0 for task in tasks) / 400 < 0.3
    assert not {task.prompt for task in Pitfalls(0).tasks("test", 50)} & {task.prompt for task in tasks[:50]}


def test_conditions_of_features_hold_as_they_read() -> None:
    """What an insight applies to is read in place of its first condition; what it does not apply to comes on top."""
    prompts = ("f1 f2 f7", "f1 f7", "f3 f4", "f5 f6 f9", "f3 f5")
    first = Entry("E1", "x", "f1 f2\nDoes not apply: f9.")
    assert [applies_to(first, prompt) for prompt in prompts] == [True, False, False, False, False]
    rewritten = Entry("E1", "x", "f1 f2\nDoes not apply: f9.\nApplies: f3 f4; f5 f6.")
    assert [applies_to(rewritten, prompt) for prompt in prompts] == [False, False, True, False, False]


def test_the_modeller_needs_the_pitfall_and_is_derailed_by_others() -> None:
    by, task = Modeller(random.Random(0)), Task("t", "f1 f2", meta={"pitfall": 3})
    right, wrong = Entry("E1", "pitfall 3"), Entry("E2", "pitfall 4")
    assert by.solve(task, [right]).right
    assert not by.solve(task, [wrong]).right
    assert by.solve(task, []).text == "pitfall 3"
    share = sum(by.solve(task, [right, wrong, wrong]).right for _ in range(2000)) / 2000
    assert 0.22 < share < 0.28, "(1 - 0.5)^2"


def test_refinement_makes_the_difference() -> None:
    size: Any = {"items": (0, 30, 60, 90), "test": 150}
    full, plain = (STUDY.arms[name](seed=0, **size) for name in ("full", "no refinement"))
    assert full["success 0"] == plain["success 0"]
    assert full["success"] > plain["success"] + 0.1
    assert full["entries 0"] == 0.0
    assert full["entries 90"] > full["entries 30"] > 0
