"""Families of hostile programs, each with the wall that stops it, in every isolated mode.

A program ends with an expression that is True when it got nothing. Afterwards the same episode and a second one must
still work.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.escape.programs import PROGRAMS, TRIED, VANDALS

from ferrule.sandbox.branches import unconfined
from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.isolate import probe
from ferrule.sandbox.settings import IsolationUnavailable, Settings

CASES = [(family, reason) for family, programs in PROGRAMS.items() for reason in programs]


@pytest.fixture(params=["namespaces", "bubblewrap"])
def episodes(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Interpreter, Interpreter] | None]:
    monkeypatch.setenv("FERRULE_TEST_SECRET", "gold")
    settings = Settings(isolation=request.param, seconds=20, memory_mb=512)
    if not probe()[request.param].available:
        with pytest.raises(IsolationUnavailable, match=request.param):
            Interpreter(settings)
        yield None
        return
    with Interpreter(settings) as one, Interpreter(settings) as other:
        yield one, other


@pytest.mark.parametrize(("family", "reason"), CASES, ids=[f"{family}: {reason}" for family, reason in CASES])
def test_nothing_is_to_be_had(episodes: tuple[Interpreter, Interpreter] | None, family: str, reason: str) -> None:
    if episodes is None:
        return
    one, other = episodes
    assert other.run("x = 20").status == "ok"
    seen = one.run(TRIED + PROGRAMS[family][reason])
    assert (seen.status, seen.data["value"]) == ("ok", "True"), (family, reason, seen.text)
    assert one.run("6 * 7").data["value"] == "42"
    assert other.run("x + 1").text == "21"


def test_from_outside_it_is_a_user_without_rights(episodes: tuple[Interpreter, Interpreter] | None) -> None:
    if episodes is None:
        return
    one, _ = episodes
    assert one.run("import os\nos.getuid(), os.getgid(), os.stat('.').st_uid").text == "(1000, 1000, 1000)"
    assert one.pid is not None
    assert unconfined(one.pid) == ""
    users = Path(f"/proc/{one.pid}/status").read_text(encoding="utf-8").split("Uid:")[1].split()[:4]
    assert users == ["65534" if os.geteuid() == 0 else str(os.geteuid())] * 4


SHARED_WITH_THE_HOST = (
    "what the kernel counts for the whole host",
    "what files shared with the host would tell or hold",
)


def test_child_processes_open_no_way_to_what_the_host_shares() -> None:
    settings = Settings(isolation="namespaces", seconds=20, memory_mb=512, allow_processes=True)
    if not probe()["namespaces"].available:
        with pytest.raises(IsolationUnavailable, match="namespaces"):
            Interpreter(settings)
        return
    for family in SHARED_WITH_THE_HOST:
        for reason, program in PROGRAMS[family].items():
            if reason != "record locks are not taken":
                with Interpreter(settings) as python:
                    seen = python.run(TRIED + program)
                    assert seen.data["value"] == "True", (reason, seen.text)
    with Interpreter(settings) as python:
        assert python.run("import subprocess\nsubprocess.run(['/bin/true']).returncode").text == "0"
        # Between processes of one episode a lock that is not taken would be a lie, so there is none.
        locks = "import fcntl\nall(denied(lambda n=n: fcntl.lockf(open(n), fcntl.LOCK_SH)) for n in (os.__file__, '/dev/null'))"
        assert python.run(TRIED + locks).data["value"] == "True"
        base = "import sqlite3\ndb = sqlite3.connect('file:x.db{}', uri=True)\ndb.execute('create table t (a)')\ndb.commit()"
        assert python.run(base.format("")).data["kind"] == "OperationalError"
        assert python.run(base.format("?nolock=1")).status == "ok"


@pytest.mark.parametrize("name", VANDALS)
def test_vandalism_harms_its_own_episode_only(episodes: tuple[Interpreter, Interpreter] | None, name: str) -> None:
    if episodes is None:
        return
    one, other = episodes
    other.run("x = 20")
    assert one.run(VANDALS[name]).status in ("ok", "error")
    # It may have broken its own interpreter, which then ends and is replaced; it never hangs or lies about others.
    for _ in range(3):
        again = one.run("6 * 7")
        if again.data["value"] == "42":
            break
    else:
        one.close()
    assert again.status in ("ok", "error")
    assert other.run("x + 1; print(x)\nx + 1").text == "20\n21"
