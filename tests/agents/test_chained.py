"""Programs that chain tools: how outputs are judged, repairs, reviewers, and probing by programs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest

from ferrule.agents.chained import ChainProgram, code_of, document_of, outcome_of, sounds_good
from ferrule.agents.probe_program import documented, probe_by_program, result_of_program
from ferrule.core.flows import Ask
from ferrule.core.records import Message, Observation, Reply, Task, Tool, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.tools.overlay import apply
from ferrule.tools.tool import tool
from ferrule.worlds.session import Toolbox, ToolSession


@tool
def find(name: str) -> dict[str, int]:
    """Find the number of a person."""
    if name != "Ann":
        raise ValueError(f"nobody is called {name}")
    return {"id": 7}


@tool
def age(person: int) -> int:
    """Age of the person with a number."""
    return 30 + person


TASK = Task("t", "How old is Ann?", "37")
RIGHT = "# find, age\nprint(age(person=find(name='Ann')['id']))"


def fenced(code: str) -> str:
    return f"```python\n{code}\n```"


def played(replies: Sequence[str], reviews: Sequence[str] = (), **how: Any) -> tuple[str | None, list[Ask]]:
    asked: list[Ask] = []
    left = iter(replies)

    def write(ask: Ask, sample: int) -> str:
        asked.append(ask)
        return next(left)

    policies = {"solver": Scripted(write), "reviewer": Scripted(list(reviews))}
    (episode,) = drive(ChainProgram(**how), [TASK], Toolbox((find, age)), policies)
    assert not episode.problem
    return (episode.trajectories[0].answer if episode.trajectories else None), asked


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ('{"ok":1}', True),
        ('{"success":false}', False),
        ("the error code", False),
        ("an invalid id", False),
        ("error: x", True),
        ("don't", True),
        ("None", True),
        ("value not available", False),
        (None, False),
    ],
)
def test_outputs_are_judged_by_their_words(text: str | None, good: bool) -> None:
    """Worked example 3: "error: x" is good, since its word is "error:" and not "error"."""
    assert sounds_good(text) == good


def test_what_became_of_a_program() -> None:
    """Worked example 4."""
    assert outcome_of(Observation("Traceback", "error", data={"stdout": "fine"})) == 1
    assert outcome_of(Observation("", data={"stdout": "it could not be found"})) == 2
    assert outcome_of(Observation("", data={"stdout": "it could not be found"}), by_text=False) == 0
    assert outcome_of(Observation("", data={"stdout": "37"})) == 0
    assert outcome_of(Observation("", data={"stdout": ""}), by_text=False) == 2


def test_code_is_the_first_block_or_the_whole_text() -> None:
    def code(text: str) -> object:
        return code_of(Reply(Message("assistant", text))).arguments["code"]

    assert code(f"{fenced('a = 1')}\n{fenced('b = 2')}") == "a = 1"
    assert code("print(1)") == "print(1)"


def test_a_program_that_fails_is_written_again() -> None:
    wrong = RIGHT.replace("Ann", "Bob")
    answer, asked = played([fenced(wrong), fenced(RIGHT)])
    assert answer == "37"
    said = plain_text(asked[1].messages[-1])
    assert "Exception Type: RuntimeError, Exception Value: find: ValueError: nobody is called Bob" in said
    assert asked[1].messages[: len(asked[0].messages)] == asked[0].messages
    assert played([fenced(wrong)] * 3)[0] is None
    assert played([fenced("print('not available')")], tries=1)[0] == "not available"
    assert played([fenced("print('not available')")], by_text=False)[0] == "not available"
    assert played([], longest=20) == (None, [])


def test_documents_say_what_tools_return() -> None:
    (request,) = played([fenced(RIGHT)])[1]
    text = plain_text(request.messages[0])
    assert "1. find(name: str)" in text
    assert "Returns: dict[str, int]" in text
    assert "Returns" not in document_of(find, output=False)
    assert "- person:  (type: int)" in document_of(age)


def test_a_reviewer_names_the_tools_to_look_at() -> None:
    wrong = fenced(RIGHT.replace("Ann", "Bob"))
    _, asked = played([wrong, fenced(RIGHT)], ["It was find: nobody is called so."], attribute=True)
    assert "The tools to look at are: find." in plain_text(asked[1].messages[-1])
    _, asked = played([wrong, fenced(RIGHT)], ["I cannot tell."], attribute=True)
    assert "Rethink the arguments" in plain_text(asked[1].messages[-1])


def test_results_of_programs_are_json() -> None:
    assert result_of_program(Observation("", data={"stdout": '{"a": 1}\n'})) == (True, {"a": 1})
    assert result_of_program(Observation("", data={"stdout": "a: 1"})) == (False, None)
    assert result_of_program(Observation("", "error", data={"stdout": "1"})) == (False, None)


NAMES = {"t1": ("t2",), "t2": ("t3",), "t3": (), "t4": ("t1", "t2"), "t5": ()}


def needing(name: str) -> Tool:
    def run(**given: Any) -> Any:
        if set(given) != set(NAMES[name]) or not all(given.values()):
            raise ValueError("a value is missing")
        return [{"made_by": name}, {"other": 1}]

    schema = {"properties": {need: {"type": "boolean"} for need in NAMES[name]}, "required": []}
    return Tool(name, f"Gives {name}.", {"type": "object", **schema}, run)


def test_tools_that_need_others_are_probed_in_rounds() -> None:
    """Worked example 5: t3 and t5 at first; then t1 fails (t2 is missing), t2 works, t4 fails; then t1 and t4."""
    tools = [needing(name) for name in NAMES]
    asked: list[tuple[str, str]] = []

    def write(ask: Ask, sample: int) -> str:
        text = plain_text(ask.messages[0])
        name = re.findall(r"\n\n(\w+)\(", text)[0]
        if "Known tools:" in text:
            return " ".join(NAMES)  # whichever are known
        known = [other for other in NAMES[name] if f"{other}(" in text.replace(f"{name}(", "", 1)]
        asked.append((name, " ".join(known)))
        given = ", ".join(f"{other}=bool({other}(**{{n: True for n in {list(NAMES[other])}}}))" for other in known)
        return f"Query: try {name}\n" + fenced(f"import json\nprint(json.dumps({name}({given})))")

    box: list[Any] = []

    def agent(task: Task, session: object) -> Any:
        here = ToolSession(Task("t", ""), lambda state: tuple(tools), None)
        box.append((yield from probe_by_program(tools, here, rounds=2, tries=1)))

    (episode,) = drive(agent, [TASK], Toolbox(()), {"prober": Scripted(write)})
    assert not episode.problem, episode.problem
    probed, overlay = box[0]
    assert [one.tool for one in probed] == ["t3", "t5", "t2", "t1", "t4"]
    assert all(map(documented, probed))
    assert probed[0].trials[0].query == "try t3"
    assert [name for name, _ in asked] == ["t1", "t2", "t3", "t4", "t5", "t1", "t2", "t4", "t1", "t4"]
    worded = apply(tools, overlay)[0]
    assert "- result[0]: dict\n\t\t- made_by: str" in worded.description  # the second element of the list is ignored
    assert "other" not in worded.description
    assert json.loads(json.dumps(worded.output))["type"] == "array"


def test_a_probe_is_asked_to_print_json() -> None:
    replies = [fenced("print('name: t3')"), fenced("raise ValueError()"), fenced("print('[1]')")]
    asked: list[Ask] = []
    left = iter(replies)

    def write(ask: Ask, sample: int) -> str:
        asked.append(ask)
        return next(left)

    box: list[Any] = []

    def agent(task: Task, session: object) -> Any:
        here = ToolSession(Task("t", ""), lambda state: (needing("t3"),), None)
        box.append((yield from probe_by_program([needing("t3")], here)))

    drive(agent, [TASK], Toolbox(()), {"prober": Scripted(write)})
    assert "and nothing else" in plain_text(asked[1].messages[-1])
    assert len(asked[2].messages) == 1  # after a failure it begins anew, without a word about it
    assert [one.tool for one in box[0][0]] == ["t3"]
