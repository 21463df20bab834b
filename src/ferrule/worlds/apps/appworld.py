"""The benchmark AppWorld as a world; needs its package, its data and running servers of its environment.

Source: "AppWorld: A Controllable World of Apps and People for Benchmarking Interactive Coding Agents",
https://arxiv.org/abs/2407.18901. Code of the model runs in AppWorld's server processes (``appworld serve environment``,
one per living session), never in this one; start them in a container, for AppWorld's own guard is not a sandbox.

Limits: written against the published interface and tested with a stand-in for the package alone, never with the real
one and its data; releases that pin pydantic 1 cannot be installed beside this package. Levels are not told apart. A
branch runs all code of its origin again on a further server, as the reference agent of paper 32 does.
"""

from __future__ import annotations

import importlib
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ferrule.core.flows import Session
from ferrule.core.records import Observation, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split

__all__ = ["AppWorldTasks"]

_PARTS = {"train": "train", "test": "test_normal"}
_NEEDED = "AppWorld needs its package and data: pip install appworld; appworld install; appworld download data"


def _package() -> Any:
    try:
        return importlib.import_module("appworld")
    except ImportError as problem:
        raise ImportError(f"{_NEEDED} ({problem})") from problem


class _Servers:
    """The servers that no session uses."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._idle, self._lock = list(urls), threading.Lock()

    def take(self) -> str:
        with self._lock:
            if not self._idle:
                raise RuntimeError("every AppWorld server is in use; start more and list them in AppWorldTasks.urls")
            return self._idle.pop()

    def give(self, url: str) -> None:
        with self._lock:
            self._idle.append(url)


class _Run:
    """One opened task; ``codes`` is what was run in it."""

    def __init__(self, id: str, experiment: str, servers: _Servers, codes: Sequence[str] = ()) -> None:
        self.id, self.experiment, self.servers, self.codes = id, experiment, servers, list(codes)
        self.url: str | None = servers.take()
        try:
            opened = _package().AppWorld(task_id=id, experiment_name=experiment, remote_environment_url=self.url)
            self.world: Any = opened
            for code in self.codes:
                opened.execute(code)
        except BaseException:
            servers.give(self.url)
            raise

    def run(self, code: str) -> Observation:
        self.codes.append(code)
        text = str(self.world.execute(code))
        return Observation(text, terminal=bool(self.world.task_completed()))

    def final(self) -> dict[str, Any]:
        verdict = self.world.evaluate()
        held, checks = int(verdict.pass_count), int(verdict.num_tests)
        return {"passed": bool(verdict.success), "partial": held / max(1, checks), "held": held, "checks": checks}

    def fork(self) -> _Run:
        return _Run(self.id, self.experiment, self.servers, self.codes)

    def close(self) -> None:
        if self.url is not None:
            self.world.close()
            self.servers.give(self.url)
            self.url = None


def _tools(run: _Run) -> tuple[Tool, ...]:
    text = (
        "Run Python code in which apis.APP.API(...) calls the APIs. apis.api_docs tells which there are, and "
        "apis.supervisor.complete_task(answer=...) ends the episode. Variables are kept from block to block."
    )
    schema = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
    return (Tool("python", text, schema, run.run, effects="write", seconds=120.0),)


@dataclass(frozen=True)
class AppWorldTasks:
    """Tasks of AppWorld: ``train`` is its train set, ``test`` its normal test set, in an order drawn from the seed.

    ``urls`` are the servers; so many sessions can be open at once. ``calls`` caps the blocks of code of an episode.
    Raises ``ImportError`` where the package is missing and ``FileNotFoundError`` where its data is missing.
    """

    urls: tuple[str, ...]
    calls: int = 50
    experiment: str = "ferrule"
    name: str = "appworld"
    servers: _Servers = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse no servers, and list them as idle."""
        if not self.urls:
            raise ValueError("AppWorldTasks.urls is empty; run appworld serve environment and name its URL")
        object.__setattr__(self, "servers", _Servers(self.urls))

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3)) -> list[Task]:
        """Return at most ``count`` tasks; every one is opened for a moment to read its instruction."""
        check_split(split, levels)
        load: Callable[[str], Sequence[str]] = _package().load_task_ids
        try:
            ids = list(load(_PARTS[split]))
        except Exception as problem:  # the package has no one error for data that is not there
            raise FileNotFoundError(f"{_NEEDED} ({type(problem).__name__}: {problem})") from problem
        random.Random(seed).shuffle(ids)
        meta = {"split": split, "state": {"passed": True}}
        blank = [Task(id=id, prompt="", world=self.name, meta=meta) for id in ids[:count]]
        return [replace(task, prompt=self._prompt(task.id)) for task in blank]

    def _prompt(self, id: str) -> str:
        run = _Run(id, self.experiment, self.servers)
        try:
            given = run.world.task
            who: Any = given.supervisor
            known: Mapping[str, Any] = who if isinstance(who, Mapping) else vars(who)
            person = ", ".join(f"{key}: {value}" for key, value in known.items())
            return f"{given.instruction}\n\nI am your supervisor ({person}); it is {given.datetime}."
        finally:
            run.close()

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session on a server that is idle; raises ``RuntimeError`` when all are busy."""
        run = _Run(task.id, self.experiment, self.servers)
        return ToolSession(task, _tools, run, budget=Budget(total=self.calls), limit=12_000, final=_Run.final)
