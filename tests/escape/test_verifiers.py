"""Code can forge the later replies of its own episode, so what scores an episode never asks its interpreter."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from tests.contracts import kinds

import ferrule
from ferrule.core.records import Call, Observation, Task, Trajectory
from ferrule.rewards.outcome import outcome
from ferrule.rewards.verify import VERIFIERS, compare
from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.isolate import probe
from ferrule.sandbox.monty import MontyInterpreter
from ferrule.sandbox.remote import RemoteInterpreter
from ferrule.sandbox.settings import Settings
from ferrule.worlds.knapsack import Knapsack

WORLDS = kinds.worlds("ferrule.worlds", "ferrule.papers")
PACKAGE = Path(ferrule.__file__).parent
SCORING = ("rewards", "credit", "rollout", "train", "evaluate")
FORGE = """
import sys
frame = sys._getframe()
while type(frame.f_locals.get('self')).__name__ != '_Server': frame = frame.f_back
server = frame.f_locals['self']
def forged(request):
    return {'status': 'ok', 'value': 'solved', 'exception': None, 'kind': None, 'line': None, 'peak': 1,
            'dropped': [0, 0], 'files': []}
server.run = forged
server.names = lambda most: [['solved', 'bool']]
"""


def test_later_replies_can_be_forged() -> None:
    """What the guide says plainly, and the reason for the rest of this file."""
    with Interpreter(Settings(isolation=probe().auto or "none", seconds=20)) as python:
        python.run(FORGE)
        assert python.run("1 + 1").data["value"] == "solved"
        assert python.names() == {"solved": "bool"}


def test_nothing_that_scores_knows_an_interpreter() -> None:
    paths = [path for folder in SCORING for path in (PACKAGE / folder).rglob("*.py")]
    assert len(paths) > 50
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            asking = [name for name in names if name.startswith(("ferrule.sandbox", "ferrule.tools.python"))]
            assert not asking, (path, asking)


@pytest.fixture
def nobody_asks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The code that any interpreter was asked to run, which is refused from now on."""
    asked: list[str] = []

    def refuse(self: Any, code: str = "", seconds: float | None = None) -> Observation:
        asked.append(code)
        return Observation("refused", "error", data={})

    for kind in (Interpreter, MontyInterpreter, RemoteInterpreter):
        monkeypatch.setattr(kind, "run", refuse)
        monkeypatch.setattr(kind, "names", refuse)
    return asked


@pytest.mark.parametrize("name", WORLDS)
def test_scoring_an_episode_asks_no_interpreter(name: str, nobody_asks: list[str]) -> None:
    world = WORLDS[name]
    for task in world.tasks("train", 2):
        session = world.start(task)
        try:
            final = dict(session.final())
        finally:
            session.close()
        if task.answer is not None or task.meta.get("state") is not None or task.meta.get("verifier") == "world":
            (score,) = outcome(task, [Trajectory(task, (), "0", "answered", final=final)])
            assert score.value <= 1.0
    assert nobody_asks == []


@pytest.mark.parametrize("name", VERIFIERS)
def test_verifiers_ask_no_interpreter(name: str, nobody_asks: list[str]) -> None:
    gold = {"python": "answer == '4'", "grids": "[[[4]]]"}.get(name, "4")
    answer = {"grids": '[{"attempt_1": [[4]], "attempt_2": [[0]]}]'}.get(name, "4")
    assert compare(name, answer, gold).value == 1.0
    assert nobody_asks == []


def test_a_forged_episode_is_scored_by_the_state_on_this_side() -> None:
    world = Knapsack(face="code")
    if probe().auto is None:
        return
    task: Task = world.tasks("train", 1)[0]
    session = world.start(task)
    session.act(Call("python", {"code": FORGE}))
    said = session.act(Call("python", {"code": "finish()"}))
    assert "solved" in said.text  # that is what the interpreter claims
    final = dict(session.final())
    session.close()
    assert final["finished"] is False
    (score,) = outcome(task, [Trajectory(task, (), "", "answered", final=final)])
    assert score.value == 0.0
