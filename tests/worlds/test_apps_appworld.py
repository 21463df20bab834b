"""The adapter of AppWorld against a stand-in for its package: the real one has data that is not ours to pass on."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from ferrule.core.records import Call, Trajectory
from ferrule.rewards.outcome import outcome
from ferrule.worlds.apps.appworld import AppWorldTasks

OPEN: set[str] = set()


class World:
    """What the adapter uses of the package's class, for a task that wants the line ``solve``."""

    def __init__(self, *, task_id: str, experiment_name: str, remote_environment_url: str) -> None:
        assert remote_environment_url not in OPEN
        OPEN.add(remote_environment_url)
        self.url, self.codes = remote_environment_url, list[str]()
        who = {"first_name": "Ana", "email": "ana@mail.example"}
        self.task = SimpleNamespace(instruction=f"Solve {task_id}.", supervisor=who, datetime="2023-05-18 12:00")

    def execute(self, code: str) -> str:
        self.codes.append(code)
        return f"ran {len(self.codes)}"

    def task_completed(self) -> bool:
        return "complete" in self.codes

    def evaluate(self) -> Any:
        held = ("solve" in self.codes) + ("complete" in self.codes)
        return SimpleNamespace(success=held == 2, pass_count=held, num_tests=2)

    def close(self) -> None:
        OPEN.remove(self.url)


def load_task_ids(part: str) -> list[str]:
    if part == "test_normal":
        raise OSError("no folder data")
    return [f"{part}_{i}" for i in range(5)]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    OPEN.clear()
    monkeypatch.setitem(sys.modules, "appworld", SimpleNamespace(AppWorld=World, load_task_ids=load_task_ids))


@pytest.mark.usefixtures("package")
def test_episodes_run_on_servers() -> None:
    world = AppWorldTasks(("http://a", "http://b"))
    tasks = world.tasks("train", 3, seed=1)
    assert tasks == world.tasks("train", 3, seed=1) != world.tasks("train", 3, seed=2)
    assert tasks[0].prompt.startswith(f"Solve {tasks[0].id}.\n\nI am your supervisor (first_name: Ana, email: ana@")
    assert not OPEN
    session = world.start(tasks[0])
    assert session.act(Call("python", {"code": "solve"})).text == "ran 1"
    twin = session.fork()
    assert len(OPEN) == 2
    with pytest.raises(RuntimeError, match="start more and list them"):
        world.start(tasks[1])
    assert twin.act(Call("python", {"code": "complete"})).terminal
    ends = [Trajectory(tasks[0], (), None, final=each.final()) for each in (session, twin)]
    assert [score.value for score in outcome(tasks[0], ends)] == [0.0, 1.0]
    assert [end.final["partial"] for end in ends] == [0.5, 1.0]
    for each in (session, twin, twin):
        each.close()
    assert not OPEN
    world.start(tasks[1]).close()


@pytest.mark.usefixtures("package")
def test_missing_data_says_what_to_do() -> None:
    with pytest.raises(FileNotFoundError, match="appworld download data"):
        AppWorldTasks(("http://a",)).tasks("test", 1)


def test_a_missing_package_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "appworld", None)
    with pytest.raises(ImportError, match="pip install appworld"):
        AppWorldTasks(("http://a",)).tasks("train", 1)


def test_servers_are_needed() -> None:
    with pytest.raises(ValueError, match="appworld serve environment"):
        AppWorldTasks(())
