"""Suites by name and by file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.records import plain_text
from ferrule.evaluate.evaluate import evaluate
from ferrule.evaluate.suites import suite
from ferrule.policies.scripted import Scripted


def rows(path: Path, items: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item) + "\n" for item in items))


@pytest.fixture
def gsm8k(tmp_path: Path) -> Path:
    items = [{"question": f"{i} and {i}?", "answer": f"{i} + {i} = {2 * i}\n#### {2 * i}"} for i in range(1, 6)]
    for name in ("train", "test"):
        rows(tmp_path / "gsm8k" / f"{name}.jsonl", items)
    return tmp_path


@pytest.mark.parametrize("name", ["arithmetic", "apis", "facts"])
def test_generated_suites_are_held_out_and_seeded(name: str) -> None:
    world, tasks = suite(name, count=10, seed=1, levels=(1, 2))
    assert world.name == name
    assert len({task.id for task in tasks}) == 10
    assert {task.meta["level"] for task in tasks} == {1, 2}
    assert tasks == suite(name, count=10, seed=1, levels=(1, 2))[1]
    assert tasks != suite(name, count=10, seed=2, levels=(1, 2))[1]


def test_gsm8k_is_judged_by_its_number_and_offers_the_calculator(gsm8k: Path) -> None:
    world, tasks = suite("gsm8k", data=gsm8k)
    assert len(tasks) == 5, "every task once, even when more are asked for"
    assert [tool.name for tool in world.start(tasks[0]).tools] == ["calculator"]

    def double(ask: Ask, sample: int) -> str:
        number = int(plain_text(ask.messages[-1]).split()[0])
        return f"That makes {2 * number if number != 3 else 0}."

    found = evaluate(ToolLoop(), Scripted(double), world, tasks)
    assert found.success == pytest.approx(4 / 5)


def test_a_known_suite_needs_the_split_alone_that_is_asked_for(gsm8k: Path) -> None:
    (gsm8k / "gsm8k" / "train.jsonl").unlink()
    world, tasks = suite("gsm8k", data=gsm8k)
    assert len(tasks) == 5
    with pytest.raises(ValueError, match="tests only"):
        world.tasks("train", 1)
    (gsm8k / "gsm8k" / "test.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match="no rows of 'gsm8k' in"):
        suite("gsm8k", data=gsm8k)


def test_own_file_with_its_verifier(tmp_path: Path) -> None:
    rows(tmp_path / "own.jsonl", [{"prompt": f"{i}?", "answer": f"{i}|none"} for i in range(40)])
    world, tasks = suite(tmp_path / "own.jsonl", verifier="regex", count=3)
    found = evaluate(ToolLoop(), Scripted(["none"] * 3), world, tasks)
    assert found.success == 1.0


def test_mistakes_are_refused(gsm8k: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'gsm8k'"):
        suite("gsm8")
    with pytest.raises(ValueError, match="tools would do nothing"):
        suite("arithmetic", tools=())
    with pytest.raises(ValueError, match="tools would do nothing"):
        suite("restbench:tmdb", data=gsm8k, tools=())
    with pytest.raises(ValueError, match=r"data \(--dataset\) would do nothing"):
        suite(gsm8k, data=gsm8k)
    with pytest.raises(ValueError, match="at least one"):
        suite("arithmetic", count=0)
