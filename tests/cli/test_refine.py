"""``ferrule refine``: the scripted pool on pyopt, one's own functions with a model, critics, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ferrule.cli import main
from ferrule.core.flows import Ask
from ferrule.core.records import plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.record import load

SLOW = """
INPUTS = {"total": {"long": "([rng.randrange(99) for _ in range(300)],)"}}
EDGES = {"total": ["([],)"]}


def total(values):
    result = 0
    for value in values:
        result = result + value
    return result
"""


def ran(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, ["refine", *arguments], input=stdin)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said to the model that takes the place of any that is named; it writes a sum as soon as it is told to."""
    seen: list[str] = []

    def script(ask: Ask, sample: int) -> str:
        seen.append(plain_text(ask.messages[-1]))
        if ask.role == "critic":
            return "Take a built-in."
        body = "sum(values)" if "built-in" in seen[-1] else "0"
        return f"```python\ndef total(values):\n    return {body}\n```"

    monkeypatch.setattr("ferrule.policies.named.answering", lambda *args, **kwargs: Scripted(script))
    return seen


def test_slow_functions_of_the_bank_are_made_faster(tmp_path: Path) -> None:
    out = tmp_path / "episodes.jsonl"
    result = ran("--eval-tasks", "1", "--seed", "0", "--critic", "scripted", "--json", "--output", str(out))
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert (data["solved"], data["wrong"], len(data["tasks"])) == (1, 0, 1)
    assert all(row["audit"]["speedup"] > 2 and row["proposals"] <= 8 for row in data["tasks"])
    assert "times as fast (95 % interval" in result.stderr
    assert len(list(load(out))) == 1


def test_own_functions_are_made_faster_by_a_model_and_what_it_is_advised(tmp_path: Path, answers: list[str]) -> None:
    path = tmp_path / "slow.py"
    path.write_text(SLOW)
    how = ("--functions", str(path), "--model", "pocket", "--rounds", "3")
    result = ran(*how, "--critic", "smollm2-135m")
    assert result.exit_code == 0, result.output
    assert "pyopt/total: " in result.output
    assert "of them wrong: 1" in result.output
    assert result.output.endswith("solved: 1 of 1, wrong answers kept: 0\n")
    assert any("tests fail" in text for text in answers)
    result = ran(*how, "--critic", "person", stdin="Use a built-in.\n\n")
    assert "What should be tried next?" in result.output
    assert result.output.endswith("solved: 1 of 1, wrong answers kept: 0\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--world", "arithmetic"), "nothing scripted for --model; name a model"),
        (("--functions", "slow.py"), "what is scripted knows the functions of the bank alone"),
        (("--functions", "slow.py", "--world", "facts"), "would do nothing with --world facts"),
        (("--rounds", "0"), "Refiner.rounds is 0; the least is 1"),
        (("--world", "pyotp"), "did you mean 'pyopt'"),
    ],
)
def test_what_is_refused(
    arguments: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("slow.py").write_text(SLOW)
    result = ran(*arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())
