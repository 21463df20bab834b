"""What comes back from hostile code, from functions of this side and from odd callers: a call never raises."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.limits import LATE

from ferrule.core.exact import line_of, write
from ferrule.core.records import Observation
from ferrule.sandbox import interpreter as module
from ferrule.sandbox import replay
from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.isolate import probe
from ferrule.sandbox.residency import Residency, ResidencyLimits, processor_seconds, resident_mb
from ferrule.sandbox.settings import IsolationUnavailable, Settings


@pytest.fixture(params=["namespaces", "bubblewrap"])
def settings(request: pytest.FixtureRequest) -> Settings:
    """Settings of the mode, or of none where the host lacks it, which is then checked to be refused."""
    if not probe()[request.param].available:
        with pytest.raises(IsolationUnavailable, match=request.param):
            Interpreter(Settings(isolation=request.param))
        return Settings(isolation="none", seconds=20)
    return Settings(isolation=request.param, seconds=20)


@pytest.fixture
def python(settings: Settings) -> Iterator[Interpreter]:
    with Interpreter(settings) as interpreter:
        yield interpreter


class _Hidden(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class _Traps(dict[str, int]):
    def items(self) -> Any:
        raise SystemExit(4)


def _raising(problem: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise problem

    return function


HOST = {
    "exit": _raising(SystemExit(4)),
    "end of a generator": _raising(GeneratorExit()),
    "a base exception": _raising(BaseException("b")),
    "no text": _raising(_Hidden()),
    "half a character": _raising(ValueError("\ud800")),
    "a long text": _raising(ValueError("x" * 10_000_000)),
    "traps": lambda: _Traps(a=1),
    "no JSON": lambda: {1, 2},
    "a loop": lambda: _loop(),
    "deep": lambda: _deep(100_000),
}


def _loop() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def _deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


@pytest.mark.parametrize("what", HOST)
def test_functions_of_this_side_cannot_end_a_call(settings: Settings, what: str) -> None:
    with Interpreter(settings, functions={"f": HOST[what]}) as python:
        python.run("x = 5")
        seen = python.run("try:\n    f()\nexcept Exception as e:\n    said = str(e)\nlen(said)")
        assert seen.status == "ok", seen.text
        assert int(seen.data["value"]) <= settings.output_limit
        assert python.run("x").text == "5"  # what the process says next is the answer to what it is asked next


def test_ctrl_c_in_a_function_comes_through_and_leaves_nothing_in_between(settings: Settings) -> None:
    with Interpreter(settings, functions={"f": _raising(KeyboardInterrupt())}) as python:
        with pytest.raises(KeyboardInterrupt):
            python.run("f()")
        seen = python.run("6 * 7")
        assert (seen.data["value"], seen.data["restarted"]) == ("42", True)


@pytest.mark.parametrize("code", [None, b"1", 5, ["1"]])
def test_code_that_is_no_text(python: Interpreter, code: Any) -> None:
    python.run("x = 5")
    seen = python.run(code)
    assert seen.status == "error"
    assert "it must be text" in seen.text
    assert python.run("x").text == "5"


@pytest.mark.parametrize("seconds", [float("nan"), 0, -1, "5", 1e300, float("inf")])
def test_odd_time_limits(python: Interpreter, seconds: Any) -> None:
    python.run("x = 5")
    seen = python.run("x", seconds)
    good = isinstance(seconds, float) and seconds > 1e6
    assert seen.text == "5" if good else "it must be a number above 0" in seen.text
    assert python.run("x").text == "5"


FORGE = """
import json, os, socket, stat, struct, sys, time
def links():
    for fd in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode): yield fd
        except OSError: pass
def answer(**fields):
    frame = sys._getframe()
    while 'request' not in frame.f_locals: frame = frame.f_back
    whole = {'id': frame.f_locals['request']['id'], 'status': 'ok', 'value': None, 'exception': None, 'kind': None,
             'line': None, 'peak': 1, 'dropped': [0, 0], 'files': [], **fields}
    body = json.dumps(whole).encode()
    for fd in links(): os.write(fd, struct.pack('>I', len(body)) + body)
    time.sleep(0.1)
"""
ODD = {
    "half a character as value": "value='\\ud800'",
    "half a character as kind": "status='error', exception='e', kind='\\udfff'",
    "NUL in a value": "value='a\\0b'",
    "up in a name": "files=[{'name': '../../etc/x', 'size': 1, 'body': None}]",
    "up in the middle of a name": "files=[{'name': 'a/../../x', 'size': 1, 'body': None}]",
    "a name from the root": "files=[{'name': '/etc/x', 'size': 1, 'body': None}]",
    "an empty name": "files=[{'name': '', 'size': 1, 'body': None}]",
    "NUL in a name": "files=[{'name': 'a\\0', 'size': 1, 'body': None}]",
    "half a character as name": "files=[{'name': '\\ud800', 'size': 1, 'body': 'YQ=='}]",
    "a size that is not true": "files=[{'name': 'x', 'size': 2**50, 'body': 'YQ=='}]",
    "no base64": "files=[{'name': 'x', 'size': 2, 'body': 'a'}]",
    "late in another form": "late=[1, 2]",
    "too much that is late": "late=['x' * 10**6, '']",
    "infinite": "line=float('inf')",
    "a list for a state": "status=['ok']",
}


@pytest.mark.parametrize("what", ODD)
def test_forged_answers_are_made_safe_or_refused(python: Interpreter, what: str) -> None:
    python.run("1")
    seen = python.run(f"{FORGE}answer({ODD[what]})", seconds=10)
    _is_safe(seen)
    assert python.run("6 * 7").data["value"] == "42"


def _is_safe(seen: Observation) -> None:
    seen.text.encode()  # no half characters
    line_of(write(seen))
    for file in seen.artifacts:
        file.name.encode()
        assert "\0" not in file.name
        assert not file.name.startswith("/")
        assert ".." not in file.name.split("/")
        assert file.size == 1 or not file.source


GREET = """
import socket
r, w = os.pipe()
os.write(w, b'x')
sent = 0
for fd in links():
    try: sent += socket.send_fds(socket.socket(fileno=os.dup(fd)), [b'\\xff'], [r])
    except OSError: pass
sent
"""


@pytest.mark.parametrize("processes", [False, True])
def test_a_greeting_nobody_asked_for(settings: Settings, processes: bool) -> None:
    wanted = Settings(isolation=settings.isolation, seconds=20, allow_processes=processes)
    with Interpreter(wanted) as python:
        seen = python.run(FORGE + GREET)
        # Descriptors are not sent from inside, and without one it is no greeting.
        assert seen.data["value"] == "0" or settings.isolation == "none"
        said = python.run("for fd in links(): os.write(fd, b'\\xff')\ntime.sleep(0.5)")
        assert "the interpreter was stopped" in said.text
        assert python.run("6 * 7").data["value"] == "42"


def test_a_listener_is_taken_from_sessions_that_have_one_only(monkeypatch: pytest.MonkeyPatch) -> None:
    if not probe()["namespaces"].available:
        return
    wanted = Settings(isolation="namespaces", seconds=20, allow_processes=True)
    with Interpreter(wanted) as python:
        python.run("1")
        assert python._live is not None
        assert not python._live._greets
        assert python._live.group.listener is None


def test_calls_of_functions_are_kept_up_to_a_bound(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay.Log, "__init__", _small(replay.Log.__init__))
    with Interpreter(settings, functions={"f": lambda: "x" * 1000}) as python:
        python.run("a = f()")
        assert python._log.whole
        assert len(python._log.steps) == 1
        python.run("for _ in range(50): f()")  # 50,000 of 20,000 bytes
        assert not python._log.whole
        assert python._log.steps == []
        assert python.run("len(a)").text == "1000"
        twin = python.fork()
        if python.branching == "replay":
            assert twin.run("'a' in globals()").data["restarted"]  # there is nothing to repeat, and it says so
        else:
            assert twin.run("len(a)").text == "1000"
        twin.close()


def _small(begin: Callable[..., None]) -> Callable[..., None]:
    def shortened(self: replay.Log, steps: Any = None, left: int = 20_000) -> None:
        begin(self, steps or [], left)

    return shortened


def test_a_function_that_an_earlier_thread_calls(settings: Settings) -> None:
    with Interpreter(settings, functions={"f": lambda: 1}) as python:
        code = "import threading, time\nx = 5\nt = threading.Timer({}, f)\nt.start()\nx"
        assert python.run(code.format(0.5)).text == "5"
        time.sleep(1.5)
        # Nobody had asked, so what it would say next is not known; that its state is lost is told.
        seen = python.run("6 * 7")
        assert (seen.data["value"], seen.data["restarted"]) == ("42", True)


CALLS = """
body = json.dumps({'id': sys._getframe().f_back.f_back.f_locals['request']['id'], 'call': 'f', 'args': [], 'kwargs': {}})
frame = struct.pack('>I', len(body)) + body.encode()
fd = next(links())
"""


def test_many_calls_at_once_take_no_memory_of_this_side(settings: Settings) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Interpreter(settings, functions={"f": lambda: 1}) as python:
        python.run("1")
        reader = "import threading\ndef read():\n    while True: os.read(fd, 65536)\n"
        flood = "threading.Thread(target=read, daemon=True).start()\nwhile True: os.write(fd, frame * 800)"
        assert python.run(FORGE + CALLS + reader + flood, seconds=1).status in ("timeout", "error")
        unread = python.run(f"{FORGE}{CALLS}while True: os.write(fd, frame * 800)", seconds=10)
        assert "before the last one's result was read" in unread.text
        assert python.run("6 * 7").data["value"] == "42"
    # kilobytes; every frame of a flood was kept before: more than 80 MB in a second
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000


NOISE = """
import threading, time
def work():
    while True:
        print('noise'); time.sleep(0.01)
threading.Thread(target=work, daemon=True).start()
"""


def test_output_of_earlier_threads_is_told_apart(python: Interpreter) -> None:
    assert python.run(NOISE).status == "ok"
    time.sleep(0.5)
    seen = python.run("import time\ntime.sleep(0.3)\nprint('mine')")
    assert seen.data["stdout"] == "mine\n"
    assert "noise" in seen.data["late"]
    assert seen.text.startswith("mine\n[written by threads of earlier calls:]\n")
    own = python.run("t = threading.Thread(target=print, args=('of this call',)); t.start(); t.join()")
    assert own.data["stdout"] == "of this call\n"
    raw = python.run("import os\nthreading.Timer(0.3, os.write, (1, b'raw')).start()")
    assert "raw" not in raw.text
    time.sleep(1.5)
    assert "raw" in python.run("1").data["late"]


def test_what_goes_on_after_a_reply_has_a_budget(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    if settings.isolation == "none":
        return
    residency = Residency(ResidencyLimits(park_seconds=1e6, reap_seconds=2e6, idle_cpu_seconds=0.2))
    monkeypatch.setattr(module, "RESIDENCY", residency)
    spin = "import threading\ndef spin():\n    while True: pass\nthreading.Thread(target=spin, daemon=True).start()"
    with Interpreter(settings) as python, Interpreter(settings) as quiet:
        quiet.run("x = 1")
        python.run(f"x = 5\n{spin}")
        end = time.monotonic() + 4 * LATE
        while not python.parked and time.monotonic() < end:
            time.sleep(0.05)
        assert python.parked
        assert not quiet.parked
        time.sleep(0.5)
        spent = processor_seconds(python.pid)
        time.sleep(1.0)
        assert processor_seconds(python.pid) == spent
        assert python.run("x").text == "5"
    residency.limits.park_seconds = 0.1  # its thread ends soon


def test_processes_that_go_on_after_a_reply_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    if not probe()["namespaces"].available:
        return
    residency = Residency(ResidencyLimits(park_seconds=1e6, reap_seconds=2e6, idle_cpu_seconds=0.2))
    monkeypatch.setattr(module, "RESIDENCY", residency)
    with Interpreter(Settings(isolation="namespaces", seconds=20, allow_processes=True)) as python:
        python.run("import os\nif os.fork() == 0:\n    while True: pass")
        end = time.monotonic() + 4 * LATE
        while python.alive and time.monotonic() < end:
            time.sleep(0.05)
        assert not python.alive
        assert python.run("6 * 7").data["restarted"]
    residency.limits.park_seconds = 0.1


def test_the_folder_counts_as_memory(settings: Settings) -> None:
    if settings.isolation == "none":
        return
    with Interpreter(Settings(isolation=settings.isolation, seconds=20, memory_mb=256, disk_mb=64)) as python:
        python.run("x = 1")
        before = resident_mb(python.pid)
        assert python.run("open('f', 'wb').write(bytes(50 * 2**20))").status == "ok"
        assert resident_mb(python.pid) - before > 45
        # 256 MiB less the 64 of the folder are left for the process, of which Python has some 20 already.
        assert python.run("y = bytearray(195 * 2**20)").data["kind"] == "MemoryError"
        assert python.run("y = bytearray(100 * 2**20)\nlen(y) >> 20").text == "100"
    with pytest.raises(ValueError, match=r"the most half of memory_mb \(128\), as the folder lies in memory"):
        Settings(memory_mb=256, disk_mb=200)


def test_a_flood_of_calls_that_are_refused_ends_at_the_limit(python: Interpreter) -> None:
    code = (
        "import ctypes, threading, time\n"
        "libc = ctypes.CDLL(None)\n"
        "threading.stack_size(65536)\n"
        "def flood():\n"
        "    while True: libc.unshare(0x10020000)\n"
        "for _ in range(20): threading.Thread(target=flood, daemon=True).start()\n"
        "while True: time.sleep(1)"
    )
    outcome: list[Observation] = []
    caller = threading.Thread(target=lambda: outcome.append(python.run(code, seconds=1)), daemon=True)
    caller.start()
    caller.join(1 + LATE)
    assert [seen.status for seen in outcome] == ["timeout"]
    assert python.run("6 * 7").data["value"] == "42"
