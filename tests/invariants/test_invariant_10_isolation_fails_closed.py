"""Invariant 10: isolation that is asked for and not available is an error, never a silent fallback."""

import os
import subprocess
import sys

import pytest

from ferrule.tools.python import PythonSession
from ferrule.worlds.arithmetic import Arithmetic

PROGRAM = """
from ferrule.sandbox import isolate
from ferrule.sandbox.settings import IsolationUnavailable
from ferrule.tools.python import PythonSession
from ferrule.worlds.arithmetic import Arithmetic
import sys

for make in (lambda: PythonSession(isolation=sys.argv[1]),
             lambda: Arithmetic(isolation=sys.argv[1]).start(Arithmetic().tasks("test", 1)[0])):
    try:
        made = make()
        seen = made.run("1") if hasattr(made, "run") else None
    except IsolationUnavailable as error:
        assert "ferrule doctor" in str(error), error
        continue
    raise SystemExit(f"no refusal: {made} {seen}")
print("refused")
"""


def test_a_missing_bubblewrap_is_refused() -> None:
    env = {**os.environ, "PATH": "/nowhere"}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, "bubblewrap"], env=env, capture_output=True, text=True, check=False
    )
    assert found.stdout.strip() == "refused", found.stdout + found.stderr


def test_an_unknown_isolation_is_refused() -> None:
    with pytest.raises(ValueError, match="namespaces"):
        PythonSession(isolation="namespace")


def test_asked_for_isolation_really_holds_or_is_refused() -> None:
    session = Arithmetic(tools=("python",)).start(Arithmetic().tasks("test", 1)[0])
    from ferrule.core.records import Call

    seen = session.act(Call("python", {"code": "import os\nprint(os.path.exists('/etc/hostname'), os.listdir('/'))"}))
    assert seen.status == "ok"
    assert "home" not in seen.text
    blocked = session.act(Call("python", {"code": "import socket\nsocket.socket()"}))
    assert blocked.status == "error"
    session.close()


# What follows takes isolation away inside this process: every way to it must end in a refusal.


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host on which neither namespaces nor bubblewrap work."""
    from ferrule.sandbox import isolate

    monkeypatch.setattr(isolate, "_lacking", lambda mode: f"{mode} taken away by this test")


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("isolation", ["auto", "namespaces", "bubblewrap"])
def test_invariant_10_no_way_around_the_refusal(isolation: str) -> None:
    from ferrule.sandbox.interpreter import Interpreter
    from ferrule.sandbox.settings import IsolationUnavailable, Settings

    (task,) = Arithmetic().tasks("test", 1)
    ways = (
        lambda: PythonSession(isolation=isolation),
        lambda: Interpreter(Settings(isolation=isolation)),
        lambda: Arithmetic(isolation=isolation).start(task),
    )
    for way in ways:
        with pytest.raises(IsolationUnavailable) as refusal:
            way()
        for word in (repr(isolation), "taken away by this test", "ferrule doctor", 'isolation="none"'):
            assert word in str(refusal.value)


@pytest.mark.usefixtures("bare")
def test_invariant_10_a_rollout_and_a_training_run_end_with_the_refusal(tmp_path, one_thread) -> None:
    """Not with observations of status error: a run whose code cannot be isolated must not look like a weak model."""
    from tests.toys import layout, tiny_policy
    from tests.train.pieces import recipe

    from ferrule.agents.react import ToolLoop
    from ferrule.policies.scripted import Scripted
    from ferrule.rollout.drive import drive
    from ferrule.sandbox.settings import IsolationUnavailable
    from ferrule.train.loop import train
    from ferrule.train.settings import Settings

    world = Arithmetic()
    with pytest.raises(IsolationUnavailable):
        drive(ToolLoop(), world.tasks("test", 2), world, Scripted(lambda ask, s: "x", renderer=layout()))
    with pytest.raises(IsolationUnavailable):
        train(
            recipe(agent=ToolLoop()), world, tiny_policy(),
            Settings(max_steps=1, per_device_train_batch_size=8, gradient_accumulation_steps=1), tmp_path,
        )  # fmt: skip
    assert not (tmp_path / "episodes.jsonl").exists()


def test_invariant_10_auto_takes_what_works_and_never_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from ferrule.sandbox import isolate
    from ferrule.sandbox.settings import IsolationUnavailable, Settings

    working: set[str] = set()
    monkeypatch.setattr(isolate, "_lacking", lambda mode: "" if mode in working else "no")
    with pytest.raises(IsolationUnavailable):
        isolate.choose(Settings())
    working.add("bubblewrap")
    assert isolate.choose(Settings()) == "bubblewrap"
    with pytest.raises(IsolationUnavailable, match="namespaces"):
        isolate.choose(Settings(isolation="namespaces"))
    working.add("namespaces")
    assert isolate.choose(Settings()) == "namespaces"
    assert isolate.choose(Settings(isolation="none")) == "none"


def test_invariant_10_isolation_lost_between_two_calls_is_no_silent_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies and cannot be started again in isolation: the next call says so and runs nothing."""
    from ferrule.sandbox import interpreter
    from ferrule.sandbox.settings import IsolationUnavailable

    session = PythonSession(seconds=5.0)
    assert session.run("x = 1\nx").status == "ok"
    session.run("import os\nos._exit(3)")

    class Gone:
        def __init__(self, mode: str, *rest: object) -> None:
            raise IsolationUnavailable(mode, "gone")

    monkeypatch.setattr(interpreter, "LiveProcess", Gone)
    seen = session.run("open('/tmp/ran', 'w')")
    assert seen.status == "error"
    assert "could not be started" in seen.text
    session.close()
