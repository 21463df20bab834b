"""``ferrule forge``: the tutorial of the guide, word for word, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ferrule.cli import main
from ferrule.tools.forge_shelf import from_json

ROOT = Path(__file__).resolve().parents[2]
PLAYERS = ("--maker", "script:players:maker", "--critic", "script:players:critic")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "examples" / "forge")
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "forge"))


@pytest.mark.usefixtures("here")
def test_the_tutorial(tmp_path: Path) -> None:
    out, shelf = tmp_path / "tools.py", tmp_path / "shelf.json"
    words = ["forge", "--tasks", "tasks.jsonl", "--out", str(out), "--shelf", str(shelf), *PLAYERS]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    shown = done.output.replace(str(out), "/tmp/tools.py")
    page = (ROOT / "docs/guide/forge.md").read_text(encoding="utf-8")
    assert all(line in page.splitlines() for line in shown.strip().splitlines()), shown
    run = subprocess.run([sys.executable, out], capture_output=True, text=True, check=True)
    assert run.stdout == "2 tests passed\n"
    assert [entry.version for entry in from_json(shelf.read_text()).offered] == [1, 1]
    before = out.read_text()
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 2
    assert "give --overwrite to replace it" in refused.output
    assert out.read_text() == before
    again = CliRunner().invoke(main, [*words, "--overwrite", "--json"])
    assert again.exit_code == 0
    assert [entry.version for entry in from_json(shelf.read_text()).offered] == [2, 2]
    assert json.loads(again.stdout)["spent"]["critic"]["asks"] == 2


@pytest.mark.usefixtures("here")
def test_what_is_not_agreed_to_is_not_written(tmp_path: Path) -> None:
    out = tmp_path / "tools.py"
    words = ["forge", "--tasks", "tasks.jsonl", "--out", str(out), "--maker", "script:players:maker", "--rounds", "1"]
    done = CliRunner().invoke(main, [*words, "--critic", "person"], input="I do not like it\n")
    assert done.exit_code == 1
    assert "no tool; critic: I do not like it" in done.output
    assert "nothing was written" in done.output
    assert not out.exists()


def test_tasks_are_needed(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["forge", "--out", str(tmp_path / "tools.py")])
    assert done.exit_code == 2
    assert "--tasks names the tasks" in done.output


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("option", ["--out", "--shelf"])
def test_a_folder_that_is_not_there_is_told_before_anything_is_made(option: str, tmp_path: Path) -> None:
    words = ["forge", "--tasks", "tasks.jsonl", "--out", str(tmp_path / "t.py"), *PLAYERS]
    done = CliRunner().invoke(main, [*words, option, str(tmp_path / "no" / "file")])
    assert done.exit_code == 2
    assert "there is no folder" in done.output
    assert "proposals" not in done.output


def test_arguments_have_names(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {n}?", "answer": str(n), "arguments": [n]} for n in range(5)]
    (tmp_path / "tasks.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    words = ["forge", "--tasks", str(tmp_path / "tasks.jsonl"), "--out", str(tmp_path / "t.py")]
    done = CliRunner().invoke(main, [*words, "--maker", "script:operator:add"])
    assert done.exit_code == 2
    assert "they are an object, by name" in done.output


@pytest.mark.usefixtures("here")
def test_a_script_takes_an_ask_and_the_number_of_a_sample(tmp_path: Path) -> None:
    words = ["forge", "--tasks", "tasks.jsonl", "--out", str(tmp_path / "t.py"), "--maker", "script:json:dumps"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "script:json:dumps cannot be called as (ask, sample) -> text: too many positional arguments" in done.output
