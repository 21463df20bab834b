"""The python tool as a session."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ferrule.core.records import Call
from ferrule.sandbox.isolate import probe
from ferrule.sandbox.settings import IsolationUnavailable
from ferrule.tools.invoke import invoke
from ferrule.tools.python import PythonSession, python_session


def test_auto_refuses_where_nothing_isolates_and_works_elsewhere() -> None:
    if probe().auto is None:
        with pytest.raises(IsolationUnavailable, match="ferrule doctor"):
            python_session()
        return
    session = python_session()
    assert invoke(session.tool, Call("python", {"code": "6 * 7"})).text == "42"
    session.close()


# Everything below concerns the tool and not the walls, so it runs on every host.
def make(**settings: object) -> PythonSession:
    return python_session(isolation="none", **settings)  # type: ignore[arg-type]


def test_variables_stay_and_forks_part() -> None:
    first = make()
    assert invoke(first.tool, Call("python", {"code": "x = [1]\nprint('hi')\nlen(x)"})).text == "hi\n1"
    second = first.fork()
    assert second.run("x.append(2)\nx").text == "[1, 2]"
    assert first.run("x").text == "[1]"
    assert second.tool.run == second.run
    third = second.fork()
    assert third.run("x").text == "[1, 2]"
    for session in (first, second, third):
        session.close()


def test_without_persistence_every_call_starts_afresh() -> None:
    session = make(persistent=False)
    session.run("x = 1")
    seen = session.run("x")
    assert (seen.status, seen.data["kind"], seen.data["restarted"]) == ("error", "NameError", False)
    assert "starts afresh" in session.tool.description
    session.close()


def test_text_limit_and_bad_settings() -> None:
    session = make(limit=10)
    assert session.run("'0123456789abc'").text == "'0123\n[... 5 characters left out ...]\n9abc'"
    session.close()
    with pytest.raises(ValueError, match="limit is 0"):
        make(limit=0)
    with pytest.raises(ValueError, match="memory_mb is 1; the least is 64"):
        make(memory_mb=1)
    with pytest.raises(ValueError, match="did you mean 'namespaces'"):
        python_session(isolation="namespace")  # type: ignore[arg-type]


def test_many_sessions_from_many_threads() -> None:
    def work(i: int) -> list[str]:
        session = make()
        session.run(f"x = {i}")
        out = [session.run(f"x + {k}").text for k in range(3)]
        session.close()
        return out

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(24)))
    assert results == [[str(i + k) for k in range(3)] for i in range(24)]


def test_a_closed_session_answers_with_an_error() -> None:
    session = make()
    session.close()
    session.close()
    seen = session.run("1")
    assert (seen.status, seen.text) == ("error", "Error: the interpreter is closed")
