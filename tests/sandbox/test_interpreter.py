"""What an interpreter returns, in every mode that the host offers."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.limits import LATE

from ferrule.core.records import Observation
from ferrule.sandbox import pool
from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.isolate import probe
from ferrule.sandbox.settings import Settings

MODES = ["none", *(mode for mode in ("namespaces", "bubblewrap") if probe()[mode].available)]


@pytest.fixture(params=MODES)
def python(request: pytest.FixtureRequest) -> Iterator[Interpreter]:
    interpreter = Interpreter(Settings(isolation=request.param, seconds=20, output_limit=2000))
    yield interpreter
    interpreter.close()


def outcome(seen: Observation) -> tuple[str, str]:
    return seen.status, seen.text


def test_output_value_and_state(python: Interpreter) -> None:
    seen = python.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\nx = 20\nx + 1")
    assert outcome(seen) == ("ok", "out\nerr\n21")
    assert seen.data == {
        "stdout": "out\n",
        "stderr": "err\n",
        "value": "21",
        "exception": None,
        "kind": None,
        "line": None,
        "restarted": False,
        "late": "",
    }
    assert outcome(python.run("x *= 2\nx")) == ("ok", "40")
    assert outcome(python.run("x = 1")) == ("ok", "")
    assert outcome(python.run("None")) == ("ok", "")
    assert outcome(python.run("")) == ("ok", "")


def test_the_last_expression_runs_once(python: Interpreter) -> None:
    assert python.run("seen = []\nseen.append(1)\nseen.append(2) or seen").text == "[1, 2]"


def test_errors_show_the_users_lines_only(python: Interpreter) -> None:
    seen = python.run("def f(n):\n    return 1 / n\n\nf(0)")
    assert seen.status == "error"
    assert seen.data["kind"] == "ZeroDivisionError"
    assert 'File "<code 1>", line 2, in f' in seen.text
    assert seen.text.endswith("ZeroDivisionError: division by zero")
    assert "runner" not in seen.text
    assert "line 4" in seen.text
    syntax = python.run("a = 1\nb = = 2")
    assert syntax.data["kind"] == "SyntaxError"
    assert "line 2" in syntax.text
    # a function defined in the first call still points at the first call's lines
    assert 'File "<code 1>", line 2, in f\n    return 1 / n' in python.run("f(0)").text


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("import sys; sys.exit(3)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise BaseException('b')", "BaseException"),
        ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "E"),
        ("class R:\n    def __repr__(self): raise ValueError('r')\nR()", "ValueError"),
        ("def f(): return f()\nf()", "RecursionError"),
        ("10**5000", "ValueError"),
        ("input()", "EOFError"),
        ("x = '\\ud800'\nprint(x)\nraise ValueError(x)", "ValueError"),
    ],
)
def test_exceptions_of_all_kinds(python: Interpreter, code: str, kind: str) -> None:
    seen = python.run(code)
    assert (seen.status, seen.data["kind"]) == ("error", kind)
    assert outcome(python.run("6 * 7")) == ("ok", "42")


@pytest.mark.parametrize("mode", MODES)
def test_tracebacks_do_not_tell_where_things_lie(mode: str) -> None:
    def add(a: int) -> int:
        raise ValueError(f"no {a}")

    code = "import json\ntry:\n    json.loads('{')\nexcept ValueError as error:\n    raise KeyError(add(3)) from error"
    with closing(Interpreter(Settings(isolation=mode), functions={"add": add})) as python:
        said = python.run(code).text
    assert [line.split(", ")[0].strip() for line in said.splitlines() if line.lstrip().startswith("File")] == [
        'File "<code 1>"',
        *['File "json/__init__.py"', 'File "json/decoder.py"', 'File "json/decoder.py"'],
        'File "<code 1>"',
    ]
    assert said.endswith("ValueError: no 3")


def test_a_clean_exit_is_a_clean_end(python: Interpreter) -> None:
    assert outcome(python.run("print('a')\nimport sys\nsys.exit()")) == ("ok", "a\n")


def test_time_limit_keeps_the_output_and_tells_the_next_call(python: Interpreter) -> None:
    python.run("x = 1")
    start = time.monotonic()
    seen = python.run("print('so far')\nimport time\ntime.sleep(60)", seconds=1)
    assert time.monotonic() - start < 1 + LATE
    assert outcome(seen) == ("timeout", "so far\nError: stopped after 1 s")
    after = python.run("'x' in globals()")
    assert after.text == "[the interpreter was restarted: variables and files of earlier calls are lost]\nFalse"
    assert after.data["restarted"] is True
    assert python.run("1").data["restarted"] is False


def test_long_output_is_cut_and_counted(python: Interpreter) -> None:
    seen = python.run("print('a' * 10_000)")
    assert seen.data["stdout"] == "a" * 2000 + "\n[... 8001 bytes of output left out ...]"
    seen = python.run("'b' * 10_000")
    assert len(seen.data["value"]) == 2000


def test_scripts_look_like_scripts(python: Interpreter) -> None:
    code = "from dataclasses import dataclass\nimport pickle\n@dataclass\nclass P:\n    x: int\n"
    assert python.run(code + "pickle.loads(pickle.dumps(P(3)))").text == "P(x=3)"
    assert python.run("__name__").text == "'__main__'"
    assert python.run("open('note.txt', 'w').write('hello')\nopen('note.txt').read()").text == "'hello'"
    assert python.run("import tempfile\nwith tempfile.TemporaryFile() as f:\n    f.write(b'x')\n").status == "ok"
    assert python.run("import asyncio\nasync def f(): return 5\nasyncio.run(f())").text == "5"
    assert python.run("import numpy\nint(numpy.arange(4).sum())").text == "6"
    # the same order of sets in every process, so that equal runs give equal records
    words = "list({'alpha', 'beta', 'gamma', 'delta'})"
    with Interpreter(python.settings) as other:
        assert other.run(words).text == python.run(words).text


def test_a_fork_repeats_what_was_run(python: Interpreter) -> None:
    python.run("x = 1")
    python.run("x += 1\nraise ValueError")
    twin = python.fork()
    python.run("x = 100")
    assert twin.run("x").text == "2"
    assert python.run("x").text == "100"
    twin.close()


def test_dead_or_talking_interpreters_are_replaced(python: Interpreter) -> None:
    assert "died (exit code 3)" in python.run("import os\nos._exit(3)").text
    later = (
        "import threading, os, time\ndef f():\n    time.sleep(0.2)\n    os._exit(1)\nthreading.Thread(target=f).start()"
    )
    assert python.run(later).status == "ok"
    time.sleep(2)
    seen = python.run("1 + 1")
    assert (seen.status, seen.data["value"], seen.data["restarted"]) == ("ok", "2", True)


def test_one_interpreter_serves_threads_in_turn(python: Interpreter) -> None:
    python.run("n = 0")
    threads = [threading.Thread(target=python.run, args=("n += 1",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert python.run("n").text == "8"


@pytest.mark.parametrize("mode", MODES)
def test_closed_and_forgotten_interpreters_leave_no_descriptors(mode: str) -> None:
    def one(close: bool) -> None:
        python = Interpreter(Settings(isolation=mode))  # type: ignore[arg-type]
        assert python.run("1").text == "1"
        if close:
            python.close()

    one(True)
    before = len(os.listdir("/proc/self/fd"))
    for close in (True, False, True, False):
        one(close)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "bubblewrap"])
def test_a_dead_zygote_is_replaced(mode: str) -> None:
    with Interpreter(Settings(isolation=mode)) as python:  # type: ignore[arg-type]
        python.run("x = 1")
        zygote = pool.zygote(mode)  # type: ignore[arg-type]
        zygote._popen.kill()
        zygote._popen.wait()
        time.sleep(0.1)
        seen = python.run("1 + 1")
        if seen.status != "ok":  # in mode none the session outlives its zygote for a moment
            seen = python.run("1 + 1")
        assert seen.data["value"] == "2"


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "bubblewrap"])
def test_a_start_after_the_end_of_the_zygote_takes_the_next_one(mode: str) -> None:
    with Interpreter(Settings(isolation=mode)) as one, Interpreter(Settings(isolation=mode)) as other:  # type: ignore[arg-type]
        assert one.run("1").text == "1"
        zygote = pool.zygote(mode)  # type: ignore[arg-type]
        zygote._popen.kill()
        zygote._popen.wait()
        assert outcome(other.run("6 * 7")) == ("ok", "42")


@pytest.mark.parametrize("mode", MODES)
def test_preloaded_modules_are_there(mode: str) -> None:
    with Interpreter(Settings(isolation=mode, preload=("numpy",))) as python:  # type: ignore[arg-type]
        assert python.run("import sys\n'numpy' in sys.modules").text == "True"


def test_packages_can_be_hidden() -> None:
    with Interpreter(Settings(isolation="none", packages=False)) as python:
        assert python.run("import pydantic").data["kind"] == "ModuleNotFoundError"
        assert python.run("import statistics\nstatistics.mean([1, 3])").text == "2"
