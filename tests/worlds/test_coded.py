"""Tools as functions of code: results, failures, the log of inner calls, budgets and branches."""

from __future__ import annotations

from ferrule.core.records import Call, Task
from ferrule.tools.budget import Budget
from ferrule.tools.tool import tool
from ferrule.worlds.coded import Coded
from ferrule.worlds.session import ToolSession


def notes(state: list[str]) -> tuple:  # type: ignore[type-arg]
    @tool(effects="write")
    def note(text: str, mark: str = "") -> dict[str, int]:
        """Write a text down."""
        if text == "bad":
            raise ValueError("bad text")
        state.append(text + mark)
        return {"count": len(state)}

    @tool(terminal=True)
    def done(answer: str) -> str:
        """End the episode."""
        return answer

    return (note, done)


def coded(total: int = 10) -> Coded:
    session = ToolSession(
        Task("t", ""), notes, [], budget=Budget(total=total), final=lambda state: {"notes": list(state)}
    )
    return Coded(session)


def run(session: Coded, code: str) -> tuple[str, str, list[tuple[str, str]]]:
    observation = session.act(Call("python", {"code": code}))
    calls = [(call["name"], call["status"]) for call in observation.data["calls"]]
    return observation.status, observation.data["stdout"], calls


def test_one_program_calls_a_chain_of_tools() -> None:
    session = coded()
    assert [one.name for one in session.tools] == ["note", "done", "python"]
    code = "first = note('a', '!')\nsecond = note(text=str(first['count']))\nprint(second)"
    assert run(session, code) == ("ok", "{'count': 2}\n", [("note", "ok"), ("note", "ok")])
    assert session.final() == {"notes": ["a!", "1"]}
    assert run(session, "print('first' in globals())")[1] == "False\n"  # every program starts afresh
    assert session.act(Call("note", {"text": "b"})).data == {"count": 3}


def test_failures_are_raised_inside_and_logged() -> None:
    session = coded(total=3)
    status, _, calls = run(session, "note('bad')")
    assert (status, calls) == ("error", [("note", "error")])
    assert run(session, "try:\n    note('bad')\nexcept RuntimeError as error:\n    print(error)")[1] == (
        "note: ValueError: bad text\n"
    )
    assert run(session, "note(1, 2, 3)")[0] == "error"
    assert run(session, "note('x')\nnote('y')")[2] == [("note", "ok"), ("note", "refused")]  # of the budget of three
    assert run(session, "done('x')")[2] == []  # what ends an episode cannot be called from code
    assert session.act(Call("python", {"code": 3})).status in ("unknown_tool", "malformed")


def test_branches_are_apart() -> None:
    session = coded()
    run(session, "note('a')")
    with_more = session.fork()
    run(with_more, "note('b')")
    assert (session.final()["notes"], with_more.final()["notes"]) == (["a"], ["a", "b"])
    for each in (session, with_more):
        each.close()
