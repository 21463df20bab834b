"""Programs that a model plays: what it is shown, what the sandbox does in its place, votes, and programs as tools."""

from __future__ import annotations

import re
from functools import partial

import pytest
from tests.toys import Bench, layout

from ferrule.agents.emulate import Emulated, Programmed, emulate, execute_mixed, vote, write_programs
from ferrule.agents.named import agent
from ferrule.agents.program_tools import WithPrograms, program_tool
from ferrule.agents.react import ToolLoop
from ferrule.chat.program import PseudoProgram
from ferrule.core.flows import Agent, Ask, Flow, Session
from ferrule.core.records import Answer, Call, Message, Task, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode

SHOUT = PseudoProgram(
    "def shout(x):\n    # 1. the mood\n    mood = mood_of(x)\n    return {'mood': mood, 'answer': x.upper() + mood * 2}",
    "shout",
)
MOODS = {"hi": "!", "oh": "."}


def model(request: Ask, sample: int) -> str:
    """Knows moods, and writes programs and calls; what it plays by itself it gets wrong."""
    text = request.prefill
    if text == "### Code\n":
        return SHOUT.text.replace("shout", f"shout{sample}") + "\n>>> f()\n### Output"
    if text.endswith(f"{SHOUT.name}("):
        return "'hi')\n"
    if leaf := re.search(r"mood_of\('(\w+)'\)\}\n>>> solve\(\)\n### Output\n$", text):
        return f"{{'answer': '{MOODS[leaf[1]]}'}} and more"
    return ">>> shout('hi')\n### Output\n{'mood': '!', 'answer': 'HI'}"


def played(body: Agent, task: Task | None = None, script: object = model) -> Episode:
    (episode,) = drive(body, [task or Task("t", "Shout.", world="bench")], Bench(), Scripted(script, renderer=layout()))  # type: ignore[arg-type]
    assert not episode.problem, episode.problem
    return episode


def outcome(flow: partial[Flow[Emulated]], script: object = model) -> tuple[Emulated, Episode]:
    kept: list[Emulated] = []

    def body(task: Task, session: Session) -> Flow[Answer]:
        kept.append((yield from flow(SHOUT, "Shout.", "hi")))
        return kept[0].answer

    episode = played(body, script=script)
    return kept[0], episode


def test_a_model_plays_a_given_program() -> None:
    result, episode = outcome(partial(emulate))
    assert result == Emulated("shout('hi')", {"mood": "!", "answer": "HI"}, "HI")
    (turn,) = episode.trajectories[0].turns
    assert plain_text(turn.messages[0]) == "### Instruction\nShout.\n### Input\nhi\n"
    assert plain_text(turn.reply).startswith(f"### Code\n{SHOUT.text}\n>>> ")
    wrote = bytes(i for i in turn.sampled if i < 256).decode()
    assert wrote.startswith(">>> shout")  # the program was given: nothing of it is learned


def test_the_sandbox_runs_what_is_defined_and_the_model_gives_the_leaves() -> None:
    result, episode = outcome(partial(execute_mixed))
    assert result == Emulated("shout('hi')", {"mood": "!", "answer": "HI!!"}, "HI!!", ("mood_of('hi')",))
    assert episode.spent["solver"].asks == 2  # the call and one leaf


def test_a_given_call_is_not_asked_for() -> None:
    result, episode = outcome(partial(execute_mixed, call="shout(x='oh')"))
    assert (result.answer, episode.spent["solver"].asks) == ("OH..", 1)
    result, episode = outcome(partial(emulate, call="shout('hi')"))
    assert (result.answer, result.call) == ("HI", "shout('hi')")


def test_with_all_leaves_defined_the_program_is_executed_truly() -> None:
    known = "def mood_of(x):\n    return '?'"
    result, episode = outcome(partial(execute_mixed, call="shout('hi')", definitions=known))
    assert (result.answer, result.leaves, episode.spent) == ("HI??", (), {})


def test_equal_calls_of_a_leaf_are_asked_for_once() -> None:
    twice = PseudoProgram("def solve(x):\n    return {'answer': mood_of(x) + mood_of(x) + mood_of('oh')}")
    run = partial(execute_mixed, twice, "Shout.", call="solve('hi')")
    result, episode = outcome(partial(lambda *_: run()))
    assert (result.answer, result.leaves) == ("!!.", ("mood_of('hi')", "mood_of('oh')"))
    assert episode.spent["solver"].asks == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def solve(x):\n    return {'answer': 1 / 0}", "ZeroDivisionError"),
        ("def solve(x):\n    return object", "no literal form"),
        ("def solve(x", "no Python"),
        ("def solve(x):\n    return {'answer': strange(x)}", "no result of strange"),
        ("def solve(x):\n    try:\n        return mood_of(x)\n    except Exception:\n        return {'answer': 1}", ""),
        (
            "def solve(x):\n    return {'answer': [mood_of('h' + 'i' + str(n)) for n in range(99)]}",
            "more than 3 leaves",
        ),
    ],
)
def test_what_goes_wrong_is_told(text: str, problem: str) -> None:
    def script(request: Ask, sample: int) -> str:
        return "no" if "strange" in request.prefill else "{'answer': 'm'}"

    run = partial(execute_mixed, PseudoProgram(text), "Shout.", call="solve('hi')", most=3)
    result, _ = outcome(partial(lambda *_: run()), script)
    assert result.answer is None
    assert problem in result.problem


def test_votes() -> None:
    assert vote(["a", "b", "a"]) == "a"
    assert vote(["a", "b", None]) == "a"  # of equals the first
    assert vote([None, "b", "a", "a"]) == "a"
    assert vote([None, None]) is None


def test_programs_are_written_played_and_voted_on() -> None:
    episode = played(Programmed(samples=3))
    assert episode.trajectories[0].answer == "HI"
    assert episode.spent["solver"].asks == 4
    given = played(Programmed(programs=(SHOUT,), sandbox=True))
    assert given.trajectories[0].answer == "HI!!"
    task = Task("t", "Shout: oh", world="bench", meta={"instruction": "Shout.", "input": "oh"})
    (turn,) = played(Programmed(programs=(SHOUT,)), task).trajectories[0].turns
    assert plain_text(turn.messages[0]) == "### Instruction\nShout.\n### Input\noh\n"
    assert agent("program:samples=2,sandbox=true") == Programmed(samples=2, sandbox=True)


def test_writing_drops_the_call_and_what_follows() -> None:
    written: list[PseudoProgram] = []

    def body(task: Task, session: Session) -> Flow[Answer]:
        written.extend((yield from write_programs("Shout.", "hi", samples=2)))
        return "done"

    played(body)
    assert [program.name for program in written] == ["shout0", "shout1"]
    assert written[0].text == SHOUT.text.replace("shout", "shout0")


def test_a_program_is_a_tool_that_a_model_plays() -> None:
    """The solver calls it twice with equal arguments and once without any; the emulator is asked once."""

    def solver(request: Ask, sample: int) -> Message:
        if len(request.messages) > 1:
            return Message("assistant", " ".join(plain_text(m) for m in request.messages if m.role == "tool"))
        calls = [Call("shout", {"x": "hi"}), Call("shout", {"x": "hi"}), Call("shout", {})]
        return Message("assistant", "", tuple(calls))

    roles = {
        "solver": Scripted(solver),
        "emulator": Scripted(lambda request, sample: "{'answer': 'HI!'}", renderer=layout()),
    }
    tasks = [Task("t", "Shout.", world="bench")]
    (episode,) = drive(WithPrograms(ToolLoop(turns=2), (SHOUT,)), tasks, Bench(), roles)
    assert not episode.problem
    path = episode.of_role("solver")[0]
    statuses = [observation.status for _, observation in path.calls]
    assert statuses == ["ok", "ok", "malformed"]
    assert path.calls[0][1].data == {"answer": "HI!"}
    assert episode.spent["emulator"].asks == 1
    shown = episode.of_role("emulator")[0].turns[0]
    assert plain_text(shown.reply).startswith(f"### Code\n{SHOUT.text}\n>>> shout(x='hi')\n### Output\n")


def test_programs_that_cannot_be_tools_are_refused() -> None:
    with pytest.raises(ValueError, match="defines no function 'solve'"):
        program_tool(PseudoProgram("x = 1"), {})
    with pytest.raises(ValueError, match="cannot be given by name"):
        program_tool(PseudoProgram("def solve(*x):\n    pass"), {})
    tool = program_tool(PseudoProgram('def solve(x, y=1, *, z=2):\n    """Add."""'), {})
    assert (tool.description, tool.parameters["required"]) == ("Add.", ["x"])
