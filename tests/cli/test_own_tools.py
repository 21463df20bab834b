"""The benchmark of own tools: what it counts as a right first call, and a run of it with one step."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

import ferrule as fe
from ferrule.core.records import Turn

ROOT = Path(__file__).parents[2]


@fe.tool
def harvest(hive: int, year: int = 2024, kind: Literal["raw", "fine"] | None = None) -> int:
    """Kilograms of honey of a hive."""
    return hive


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names of the script."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return runpy.run_path(str(ROOT / "benchmarks" / "own_tools.py"))


def episode(*calls: fe.Call, wanted: tuple[fe.Call, ...]) -> fe.Trajectory:
    rows = [{"name": call.name, "arguments": dict(call.arguments)} for call in wanted]
    observations = tuple(fe.Observation("1") for _ in calls)
    turn = Turn(0, None, (), (), (), fe.Message("assistant", "", calls), observations=observations)
    return fe.Trajectory(fe.Task("t", "?", meta={"calls": rows}), (turn,))


def test_a_first_call_is_right_when_its_tool_gets_the_arguments_of_the_reference(script: dict[str, Any]) -> None:
    wanted = (fe.Call("harvest", {"hive": 7}), fe.Call("harvest", {"hive": 8}))

    def right(*calls: fe.Call) -> bool:
        return bool(script["first_right"](episode(*calls, wanted=wanted), {"harvest": harvest}))

    assert right(fe.Call("harvest", {"hive": 7}))
    assert right(fe.Call("harvest", {"kind": None, "year": 2024, "hive": 7})), "the defaults, given"
    assert right(fe.Call("harvest", {"hive": "7"})), "the tool reads 7"
    assert right(wanted[0], fe.Call("harvest", {"hive": 1})), "the first alone counts"
    assert not right(wanted[1], wanted[0])
    assert not right(fe.Call("harvest", {"hive": 7, "year": 2023}))
    assert not right(fe.Call("harvest", {"hive": 7, "kind": "raw"}))
    assert not right(fe.Call("harvest", {"hive": 7, "apiary": "Heath"})), "refused by the tool"
    assert not right(fe.Call("harvests", {"hive": 7}))
    assert not right(fe.Call("harvest", {"hive": 7}, problem="cut off"))
    assert not right()


def test_own_tools_are_measured_trained_and_measured_again(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    one_thread: None,
) -> None:  # fmt: skip
    path = tmp_path / "result.json"
    flags = [
        "--json",
        str(path),
        "--seeds",
        "5",
        "--steps",
        "1",
        "--tasks",
        "4",
        "--train=--num-generations 2 --max-completion-length 32",
    ]
    monkeypatch.setattr(sys, "argv", ["own_tools.py", str(ROOT / "examples" / "own_tools"), *flags])
    script["main"]()
    result = json.loads(path.read_text())
    assert result["figures"]["train"][:2] == ["--num-generations", "2"]
    (figure,) = result["figures"]["tools"].values()
    assert {place: row["greedy"]["count"] for place, row in figure["before"].items()} == {"all tasks": 8, "test": 4}
    assert figure["tasks"]["test"] > 4
    (after,) = figure["after"]
    assert (after["seed"], after["steps"], after["stopped by"]) == (5, 1, "max_steps")
    assert after["minutes"] < 5
    for row in (*figure["before"].values(), after):
        for kind, name in (("first call", "right"), ("greedy", "success"), ("temperature 1", "success")):
            low, high = row[kind]["interval"]
            assert 0 <= low <= row[kind][name] <= high <= 1
            assert high - low > 0.2, "of eight tasks at most"
    assert str(ROOT) not in path.read_text(), "a result holds no path of this machine"
    assert "seed 5" in capsys.readouterr().out
