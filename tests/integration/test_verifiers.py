"""Tasksets and environments of the real package ``verifiers`` as worlds, new and old, each in a venv of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.peers import ROOT, peer_python

from ferrule.worlds.named import world
from ferrule.worlds.tasksets import is_taskset

pytestmark = pytest.mark.integration
HERE = Path(__file__).parent


def played(peer: str, script: str) -> Any:
    done = subprocess.run(
        [str(peer_python(peer)[peer]), script],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def said() -> Any:
    return played("verifiers", "verifiers_taskset.py")


@pytest.fixture(scope="module")
def old() -> Any:
    return played("environments", "verifiers_environment.py")


def test_tasks_and_tools_are_those_of_the_taskset(said: Any) -> None:
    assert sum(said["sizes"]) == 8
    assert all(said["sizes"]), "both splits have tasks"
    assert said["prompt"] == [["system", "Be exact."], ["user", "Count to 6."]]
    amount = {"type": "integer", "description": "how much"}
    assert said["tools"] == [
        [
            "adder_add",
            "Add to the total.",
            {"type": "object", "properties": {"amount": amount}, "required": ["amount"]},
        ],
        ["adder_look", "Look at the total.", {"type": "object", "properties": {}, "required": []}],
    ]
    assert said["named"] == "verifiers_taskset"


def test_the_state_is_the_episodes_own_and_a_branch_has_a_copy(said: Any) -> None:
    assert said["seen"] == [
        ["2 of 6", "ok", False],
        ["ValueError: only upwards", "error", False],
        ["22 of 6", "ok", True],  # beyond 10 the task's own stop ends the episode
        ["2", "ok", False],
    ]
    # Nothing was said yet, and neither total is 6. An error is a result as well.
    parts = {"exact": 0.0, "said": 0.0}
    assert said["finals"] == [
        {"reward": 0.0, "rewards": parts, "metrics": {"results": 3.0}},
        {"reward": 0.0, "rewards": parts, "metrics": {"results": 2.0}},
    ]


def test_rewards_are_the_weighted_sum_of_the_tasks_own(said: Any) -> None:
    # Goals 1 to 8, two samples each: an even goal is met (1.0) and said (0.5), an odd one overshot and said.
    assert said["values"] == [value for goal in range(1, 9) for value in [0.5 if goal % 2 else 1.5] * 2]
    assert said["finish"] == ["answer"]


def test_what_cannot_be_played_is_refused_by_name(said: Any) -> None:
    boxed, unknown = said["refused"]
    assert boxed == "task 'Boxed/0' needs a container, which is not started here"
    assert "no taskset 'nothing_of_that_name'" in unknown


def test_without_the_package_it_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "verifiers", None)
    with pytest.raises(ImportError, match=r"pip install 'verifiers>=0\.4'"):
        world("verifiers:gsm8k")
    assert not is_taskset(3)
    assert not is_taskset(Path)


def test_an_environment_with_tools_plays_its_own_rollout(old: Any) -> None:
    assert sum(old["sizes"][0]) == 8
    assert all(old["sizes"][0]), "one data set is divided"
    assert old["sizes"][1] == [8, 3], "a set for evaluation is the tests"
    assert old["named"] == "verifiers_environment"
    assert old["prompt"] == [["system", "Be exact."], ["user", "What is 3 + 2?"]]
    ((name, description, parameters),) = old["tools"]
    assert (name, description, parameters["required"]) == ("add", "Add two numbers.", ["a", "b"])
    assert old["sums"][0] == ["5", "ok"]
    assert old["sums"][1][1] == "malformed", "what the schema refuses does not reach the environment"
    assert old["midway"] == 0.0
    assert old["ended"] == [[["the episode is over", True]]] * 2
    assert old["rewards"] == [1.0, 0.0], "what was said is what the rubric reads"
    assert old["late"] == ["refused", True]
    assert old["values"] == [1.0] * 16


def test_dialogues_and_tools_with_a_state(old: Any) -> None:
    # Asked for its reward in between, the game goes on: 5 is too low, 9 too high, 7 wins, which weighs 2.
    assert old["guesses"] == [[["higher", False], ["lower", False]], 0.0, [["right", True]], 2.0]
    assert old["kept"] == ["1 items", "2 items", "1 items", "2 items"]
    assert old["hidden"] == [["item"]]
