"""Models and agents as parts of learning from insights, on word problems with a solver."""

from __future__ import annotations

import json
from typing import Any

from ferrule.agents.best_of import BestOf
from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Task, plain_text
from ferrule.memory.asked import answer_of, by_agent, explaining, extracting, labelling, varying
from ferrule.memory.conditions import note_fared
from ferrule.memory.entries import Entry
from ferrule.memory.insights import Evolution, Solved, evolve, learn_from
from ferrule.memory.library import Library
from ferrule.policies.scripted import Scripted
from ferrule.rollout.settle import settle
from ferrule.worlds.optimisation import Optimisation

WORLD = Optimisation(tools=("solve",))
INSIGHT = "Variables that count whole things are integers."


def integer_task() -> Task:
    """A word problem whose optimum with whole numbers differs from the one without."""
    from ferrule.worlds.optimisation.program import program_of, solve

    for task in WORLD.tasks("train", 60):
        program = dict(task.meta["program"])
        if program.get("integer"):
            loose = solve(program_of({**program, "integer": []})).value
            if loose is not None and abs(loose - float(task.answer)) > 1:
                return task
    raise AssertionError("no such task was drawn")


TASK = integer_task()


def talk(request: Ask, sample: int) -> str | Message:
    """The solver forgets whole numbers unless a note says so; the writer says so."""
    text = "\n".join(plain_text(message) for message in request.messages)
    if request.role == "writer":
        row = {"label": ["General Formulation", "Variable Definition", "Integrality"], "condition": "things are counted",
               "explanation": INSIGHT, "example": "wrong: 2.5 trucks right: 2 trucks"}  # fmt: skip
        return f"```json\n{json.dumps([row, {'explanation': ''}, 3])}\n```"
    results = [message for message in request.messages if message.role == "tool"]
    if results:
        value = plain_text(results[-1]).splitlines()[0].removeprefix("Optimal value: ")
        return f"As [E1] says. Optimal value: {value}" if INSIGHT in text else f"Optimal value: {value}"
    program = dict(TASK.meta["program"])
    return Message("assistant", "", (Call("solve", program if INSIGHT in text else {**program, "integer": []}),))


def solved(entries: list[Entry], agent: Any = None) -> Solved:
    policy = Scripted(talk)
    result = settle([by_agent(agent or ToolLoop(), WORLD)(TASK, entries)], {"solver": policy})  # type: ignore[list-item]
    assert result.problems == ("",)
    value = result.values[0]
    assert value is not None
    return value


def test_an_agent_solves_a_task_with_entries_before_it() -> None:
    bare, told = solved([]), solved([Entry("E1", INSIGHT)])
    assert (bare.right, told.right) == (False, True)
    assert "solve(" in bare.text
    assert "answer: Optimal value" in bare.text
    assert (bare.used, told.used) == (None, ("E1",))
    assert solved([Entry("E1", INSIGHT)], BestOf(samples=2)).right, "agents that branch are asked for their first leaf"


def test_an_insight_is_extracted_and_proved_on_the_world() -> None:
    library, policy = Library(), Scripted(talk)

    def every(task: Task, entries: Any) -> Any:
        return entries

    flow = learn_from(library, TASK, by_agent(ToolLoop(), WORLD), extracting(), every, attempts=1)
    (added,) = settle([flow], {"solver": policy, "writer": policy}).values
    assert added is not None
    assert [entry.text for entry in added] == [f"{INSIGHT} wrong: 2.5 trucks right: 2 trucks"]
    assert added[0].labels == (("General Formulation", "Variable Definition", "Integrality"),)
    assert added[0].when == "things are counted"
    assert added[0].tasks == (TASK.id,)
    assert "integer" in answer_of(TASK)
    assert answer_of(Task("t", "", "3")) == "answer: 3"


def said(flow: Any, *replies: str) -> Any:
    (value,) = settle([flow], {"writer": Scripted(list(replies))}).values
    return value


def test_labels_reasons_and_conditions_are_read_from_what_a_model_says() -> None:
    entry, failure = Entry("E1", INSIGHT, "whole things"), Solved(False, "failed")
    label = labelling()
    assert said(label(TASK, failure, entry), "Not positive: negative.") == "negative"
    assert said(label(TASK, failure, entry), "Invalid") == "invalid"
    assert said(label(TASK, failure, entry), "no idea") == "irrelevant"
    assert said(extracting()(TASK, failure), "no list") == []
    reason = explaining({TASK.id: TASK}, applies=False)
    assert said(reason(entry, TASK.id), " where all is fractional ") == "where all is fractional"
    assert said(varying(count=2)(entry, ["a"], ["b"]), "one", "two") == ["one", "two"]


def test_passes_diagnose_and_rewrite_with_models_as_parts() -> None:
    """The only entry misleads a task: its condition is rewritten, and a model says for which task it is retrieved."""
    library = Library()
    library.add("wrong", when="always")
    library.add("right", when="always too")
    tasks = [Task("t1", "one", "1"), Task("t2", "two", "2")]
    note_fared(library, "E1", {"t0": "positive"})

    def solve(task: Task, entries: Any) -> Solved:
        return Solved(not any(entry.text == "wrong" for entry in entries) or task.id == "t2")

    def retrieve(task: Task, entries: Any) -> Any:
        return [entry for entry in entries if "not t1" not in entry.when or task.id != "t1"]

    def retrieves(entry: Entry, task: str) -> Any:
        (reply,) = yield Ask((Message("user", f"{entry.when} for {task}"),), role="retriever")
        return plain_text(reply.message) == "yes"

    by = Evolution(
        solve, retrieve, lambda task, failure, entry: "negative" if entry.text == "wrong" else "positive",
        lambda task, failure, entries: [], lambda entry, task: f"not {task}", lambda entry, task: task,
        lambda entry, applies, apart: [f"always\n{'; '.join(apart)}"], retrieves,
    )  # fmt: skip
    asked = Scripted(
        lambda request, sample: "no" if "t1" in plain_text(request.messages[0]).split("for ")[1] else "yes"
    )
    (shares,) = settle([evolve(library, tasks, by, passes=2)], {"retriever": asked}).values
    assert shares == [1.0, 1.0], "with the right entry alone the first task was solved in the first pass, too"
    assert library["E1"].when == "always\nnot t1"
    assert library["E2"].when == "always too"
