"""A taskset of the real package ``verifiers`` as a world, in an environment of its own."""

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


@pytest.fixture(scope="module")
def said() -> Any:
    python = peer_python("verifiers")["verifiers"]
    done = subprocess.run(
        [str(python), "verifiers_taskset.py"],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


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
