"""One surface, several places to run: the same calls on the local interpreter and on Monty."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.limits import LATE

from ferrule.sandbox.backend import BACKENDS, Backend, open_backend
from ferrule.sandbox.isolate import probe
from ferrule.sandbox.monty import MontyInterpreter
from ferrule.sandbox.settings import Settings

LOCAL = Settings(isolation="auto" if probe().auto else "none", seconds=20)


def opened(where: str, **more: Any) -> Backend:
    return open_backend(where, LOCAL if where == "local" else Settings(seconds=20, memory_mb=128), **more)


@pytest.mark.parametrize("where", BACKENDS)
def test_the_surface_is_one(where: str) -> None:
    python = opened(where)
    first = python.run("print('a')\nx = [1]\nx + [2]")
    assert (first.status, first.text, first.data["value"]) == ("ok", "a\n[1, 2]", "[1, 2]")
    assert python.names() == {"x": "list"}
    twin = python.fork()
    twin.run("x.append(5)")
    assert (twin.run("x").text, python.run("x").text) == ("[1, 5]", "[1]")
    failed = python.run("y = 1\nx[7]")
    assert (failed.status, failed.data["kind"], failed.data["line"]) == ("error", "IndexError", 2)
    assert "IndexError" in failed.text
    assert python.run("def f(:\n  pass").data["kind"] == "SyntaxError"
    assert python.run("x").text == "[1]"
    python.close()
    python.close()
    assert "closed" in python.run("1").text
    assert twin.run("len(x)").text == "2"
    twin.close()


@pytest.mark.parametrize("where", BACKENDS)
def test_limits_hold(where: str) -> None:
    python = opened(where)
    python.run("x = 1")
    began = time.monotonic()
    limited = open_backend(where, Settings(isolation=LOCAL.isolation, seconds=0.5, memory_mb=128))
    limited.run("x = 1")
    seen = limited.run("print('so far')\nwhile True: pass")
    assert time.monotonic() - began < 0.5 + LATE
    assert (seen.status, seen.text.splitlines()[0]) == ("timeout", "so far")
    after = limited.run("1 + 1")
    assert (after.data["value"], after.data["restarted"]) == ("2", True)
    assert python.run("big = [0] * 10**10").data["kind"] == "MemoryError"
    limited.close()
    python.close()


@pytest.mark.parametrize("where", BACKENDS)
def test_functions_are_called_here(where: str) -> None:
    def fail() -> None:
        raise PermissionError("not you")

    python = opened(where, functions={"add": lambda a, b=1: a + b, "fail": fail})
    assert python.run("add(2, b=3)").text == "5"
    assert python.run("try:\n    fail()\nexcept PermissionError as e:\n    print(e)").text == "not you\n"
    python.close()


@pytest.mark.parametrize("where", BACKENDS)
def test_without_memory_every_call_starts_afresh(where: str) -> None:
    python = opened(where, persistent=False)
    python.run("x = 1")
    assert python.run("x").data["kind"] == "NameError"
    python.close()


def test_monty_shows_nothing_of_the_host() -> None:
    python = MontyInterpreter()
    for code in ("open('/etc/passwd').read()", "import subprocess", "import socket", "__import__('os').system('true')"):
        assert python.run(code).status == "error", code
    python.close()


def test_monty_refuses_settings_that_do_nothing() -> None:
    with pytest.raises(ValueError, match="preload would do nothing"):
        MontyInterpreter(Settings(preload=("json",)))
    with pytest.raises(ValueError, match="allow_processes would do nothing"):
        MontyInterpreter(Settings(allow_processes=True))


def test_an_unknown_place_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"backend is 'locl'; did you mean 'local'.*or the URL of a tool server"):
        open_backend("locl")
    with pytest.raises(ValueError, match="settings of the server"):
        open_backend("http://127.0.0.1:1", persistent=False)
