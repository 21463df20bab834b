"""Many interpreters in bounded memory: parking, ending the idle, making room."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from ferrule.sandbox import interpreter as module
from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.isolate import probe
from ferrule.sandbox.residency import Residency, ResidencyLimits
from ferrule.sandbox.settings import Settings

MODE = "namespaces" if probe()["namespaces"].available else "none"


@pytest.fixture
def residency(monkeypatch: pytest.MonkeyPatch) -> Iterator[Residency]:
    residency = Residency(ResidencyLimits(park_seconds=1e6, reap_seconds=2e6))
    monkeypatch.setattr(module, "RESIDENCY", residency)
    yield residency
    residency.limits.park_seconds = 0.1  # its thread ends soon after the last interpreter


def make() -> Interpreter:
    return Interpreter(Settings(isolation=MODE, seconds=20))  # type: ignore[arg-type]


def state(python: Interpreter) -> str:
    """The state letter of the process, as the kernel tells it."""
    with open(f"/proc/{python.pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0]


def eventually(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def test_an_idle_one_is_stopped_and_goes_on(residency: Residency) -> None:
    with make() as python:
        python.run("x = 5\nimport threading, time\ndef spin():\n    while True: pass\n")
        python.run("threading.Thread(target=spin, daemon=True).start()")
        residency.limits.park_seconds = 0.0
        residency.sweep()
        assert python.parked
        assert eventually(lambda: state(python) == "T")
        assert python.run("x").text == "5"
        assert not python.parked
        residency.limits.park_seconds = 1e6
        python.park()
        twin = python.fork()
        assert twin.run("x").text == "5"
        twin.close()


def test_a_long_idle_one_is_ended_and_says_so(residency: Residency) -> None:
    with make() as python:
        python.run("x = 5")
        residency.limits.reap_seconds = 0.0
        residency.sweep()
        assert not python.alive
        seen = python.run("'x' in globals()")
        assert seen.data["restarted"]
        assert seen.text.endswith("False")


def test_the_longest_idle_makes_room(residency: Residency) -> None:
    residency.limits.alive = 3
    many = [make() for _ in range(6)]
    for number, one in enumerate(many):
        one.run(f"x = {number}")
    assert [one.alive for one in many] == [False, False, False, True, True, True]
    assert many[4].run("x").text == "4"
    assert many[0].run("x").data["restarted"]
    assert not many[3].alive
    for one in many:
        one.close()


def test_memory_of_all_is_bounded(residency: Residency) -> None:
    many = [make() for _ in range(3)]
    for one in many:
        one.run("x = bytearray(40 * 2**20)\nfor i in range(0, len(x), 4096): x[i] = 1")
    residency.limits.memory_mb = 100.0
    residency.sweep()
    assert [one.alive for one in many] == [False, True, True]
    for one in many:
        one.close()


def test_one_that_is_at_work_is_left_alone(residency: Residency) -> None:
    with make() as busy, make() as newcomer:
        busy.run("x = 1")
        residency.limits.alive, residency.limits.reap_seconds = 1, 0.0
        with busy._lock:
            residency.sweep()
            assert busy.alive
            seen = newcomer.run("1")
            assert seen.status == "error"
            assert "1 interpreters are at work (the most is 1)" in seen.text
        assert newcomer.run("2").text == "2"
