"""Branching a live interpreter: what a fork shares, what it does not, and what happens when one of them ends."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.limits import LATE

from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.isolate import probe
from ferrule.sandbox.settings import Settings

MODES = ["none", *(mode for mode in ("namespaces", "bubblewrap") if probe()[mode].available)]
FORKING = [mode for mode in MODES if mode != "bubblewrap"]


@pytest.fixture(params=MODES)
def python(request: pytest.FixtureRequest) -> Iterator[Interpreter]:
    with Interpreter(Settings(isolation=request.param, seconds=20)) as interpreter:
        yield interpreter


@pytest.fixture(params=FORKING)
def forking(request: pytest.FixtureRequest) -> Iterator[Interpreter]:
    with Interpreter(Settings(isolation=request.param, seconds=20)) as interpreter:
        yield interpreter


def test_branches_have_everything_and_share_nothing(python: Interpreter) -> None:
    python.run("import os\nx = {'n': [1]}\nopen('note', 'w').write('old')\nclass A: pass\na = A(); a.v = 3")
    one, two = python.fork(), python.fork()
    assert one.run("x['n'].append(2); a.v += 1; open('note', 'w').write('one'); (x, a.v)").text == "({'n': [1, 2]}, 4)"
    assert two.run("open('mine', 'w').close(); (x, a.v, open('note').read())").text == "({'n': [1]}, 3, 'old')"
    assert python.run("(x, a.v, open('note').read(), sorted(os.listdir('.')))").text.startswith(
        "({'n': [1]}, 3, 'old', ['note'"
    )
    assert one.run("(open('note').read(), os.path.exists('mine'))").text == "('one', False)"
    for branch in (one, two):
        branch.close()


def test_a_fork_is_made_of_the_process_itself(forking: Interpreter) -> None:
    # A random number that was drawn cannot be drawn again: only a copy of the memory has it.
    forking.run("import random, os\nx = random.SystemRandom().random()")
    assert forking.branching == "fork"
    twin = forking.fork()
    assert twin.alive
    assert twin.run("x").text == forking.run("x").text
    # The pseudo-random state is copied as well, so both draw the same next number.
    assert twin.run("random.random()").text == forking.run("random.random()").text
    twin.close()


def test_a_start_that_fails_leaves_what_is_to_be_repeated(python: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    python.settings = Settings(isolation=python.mode, branches=0)
    python.run("x = 20")
    with python.fork() as twin:
        with monkeypatch.context() as broken:

            def refused(*_: object) -> None:
                raise OSError("no room")

            broken.setattr("ferrule.sandbox.interpreter.LiveProcess", refused)
            assert twin.run("x + 1").text == "Error: the interpreter could not be started: no room"
        assert twin.run("x + 1").text == "21"


def test_replay_runs_the_code_again(python: Interpreter) -> None:
    if python.mode != "bubblewrap":
        python.settings = Settings(isolation=python.mode, branches=0)
    assert python.branching == "replay"
    python.run("import random\nx = random.SystemRandom().random()\ny = 5")
    twin = python.fork()
    assert not twin.alive
    assert twin.run("y").text == "5"
    assert twin.run("x").text != python.run("x").text
    twin.close()


def test_a_chain_of_branches(forking: Interpreter) -> None:
    forking.run("path = ['root']")
    chain = [forking]
    for depth in range(6):
        chain.append(chain[-1].fork())
        chain[-1].run(f"path.append({depth}); open('depth', 'w').write('{depth}')")
    assert chain[-1].run("path").text == "['root', 0, 1, 2, 3, 4, 5]"
    assert chain[3].run("path, open('depth').read()").text == "(['root', 0, 1, 2], '2')"
    for one in chain[1:]:
        one.close()


def test_deeper_than_namespaces_can_be_nested(forking: Interpreter) -> None:
    # The kernel nests 32 user namespaces; beyond, a branch repeats the calls instead and says so by `alive`.
    node, old = forking, []
    forking.run("n = 0")
    for _ in range(40):
        old.append(node)
        node = node.fork()
        node.run("n += 1")
    assert node.run("n").text == "40"
    for one in [*old[1:], node]:
        one.close()


def test_branches_outlive_the_original(forking: Interpreter) -> None:
    forking.run("x = 41")
    twin, third = forking.fork(), forking.fork()
    forking.close()
    assert twin.run("x + 1").text == "42"
    late = twin.fork()
    twin.close()
    assert late.run("x + 2").text == "43"
    assert third.run("x").text == "41"
    late.close()
    third.close()


@pytest.mark.parametrize("end", ["import os\nos._exit(3)", "import ctypes\nctypes.string_at(1)", "while True: pass"])
def test_one_that_dies_takes_nobody_along(forking: Interpreter, end: str) -> None:
    forking.run("x = 1")
    twin, third = forking.fork(), forking.fork()
    assert forking.run(end, seconds=0.5).status in ("error", "timeout")
    assert twin.run("x").text == "1"
    assert twin.run(end, seconds=0.5).status in ("error", "timeout")
    assert third.run("x += 1\nx").text == "2"
    again = twin.run("'x' in globals()")
    assert again.data["restarted"]
    assert again.data["value"] == "False"
    for one in (twin, third):
        one.close()


def test_time_limits_hold_in_branches(forking: Interpreter) -> None:
    forking.run("x = 1")
    twin = forking.fork()
    began = time.monotonic()
    assert twin.run("print('so far')\nwhile True: pass", seconds=0.5).text.startswith("so far")
    assert time.monotonic() - began < 0.5 + LATE
    twin.close()


def test_many_branches_at_once(forking: Interpreter) -> None:
    forking.run("base = list(range(1000))")
    branches = [forking.fork() for _ in range(60)]
    assert all(one.alive for one in branches)
    for number, one in enumerate(branches):
        one.run(f"base.append({number})")
    assert [one.run("base[-1] + len(base)").text for one in branches] == [str(n + 1001) for n in range(60)]
    for one in branches:
        one.close()


def test_a_fork_of_nothing_and_of_the_closed() -> None:
    fresh = Interpreter(Settings(isolation=MODES[-1], seconds=20))
    twin = fresh.fork()
    assert twin.run("1 + 1").text == "2"
    twin.close()
    assert "closed" in twin.fork().run("1").text
    fresh.close()


def test_an_interpreter_without_memory_forks_into_one_without_memory() -> None:
    with Interpreter(Settings(isolation=FORKING[-1], seconds=20), persistent=False) as python:
        python.run("x = 1")
        twin = python.fork()
        assert twin.run("x").data["kind"] == "NameError"
        twin.close()


def test_user_threads_do_not_cross(forking: Interpreter) -> None:
    forking.run("import threading, time\nt = threading.Thread(target=time.sleep, args=(60,), daemon=True)\nt.start()")
    twin = forking.fork()
    assert twin.run("threading.active_count()").text == "1"
    assert forking.run("1").text == "1"
    twin.close()
