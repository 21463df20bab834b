"""``--memory`` in run and eval, and ``ferrule memory``: show, add, export, prune, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import ferrule as fe
from ferrule.cli import main
from ferrule.cli.remembered import with_memory
from ferrule.core.flows import Ask
from ferrule.core.recipe import Method
from ferrule.core.records import Call, Message, plain_text
from ferrule.memory.library import Library
from ferrule.policies.scripted import Scripted


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said to the model in place of any that is named: it calculates, and as a writer it notes something."""
    seen: list[str] = []

    def script(ask: Ask, sample: int) -> str | Message:
        seen.append("\n".join(plain_text(message) for message in ask.messages))
        if ask.role == "writer":
            return '[{"option": "add", "experience": "If a sum is asked for, use the calculator."}]'
        results = [message for message in ask.messages if message.role == "tool"]
        return (
            plain_text(results[-1])
            if results
            else Message("assistant", "", (Call("calculator", {"expression": "2+3"}),))
        )

    monkeypatch.setattr("ferrule.policies.named.answering", lambda *args, **kwargs: Scripted(script))
    return seen


def test_a_run_recalls_and_keeps_where_the_answer_is_given(tmp_path: Path, told: list[str]) -> None:
    path = str(tmp_path / "lib.sqlite")
    first = ran("run", "How much is two plus three?", "--memory", path)
    assert first.exit_code == 0, first.output
    assert "recalled: nothing\n" in first.stderr
    kept = ran("run", "How much is two plus three?", "--memory", path, "--answer", "5")
    assert "recalled: nothing; scored 1; entries: 0 before, 1 now" in kept.stderr
    again = ran("run", "How much is two plus four?", "--memory", path, "--answer", "6", "--json")
    assert "recalled: E1; scored 0; entries: 1 before, 1 now" in again.stderr
    assert json.loads(again.stdout)["turns"][0]["notes"]["memory"] == {"!": "tuple", "items": ["E1"]}
    assert '[E1] How much is two plus three?: calls that worked: calculator {"expression": "2+3"}' in told[-1]
    library = Library(path)
    assert library["E1"].tally.shown == 1
    assert library["E1"].tally.credit == -1.0, "the other run had 1"
    library.close()
    refused = ran("run", "How much?", "--answer", "5")
    assert refused.exit_code == 2
    assert "would do nothing without" in refused.stderr


def tasks_of(tmp_path: Path) -> str:
    path = tmp_path / "tasks.jsonl"
    rows = [{"prompt": f"How much is 2 plus 3, case {i}?", "answer": "5"} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def evaluated(tmp_path: Path, *more: str) -> dict[str, Any]:
    result = ran(
        "eval", "--dataset", tasks_of(tmp_path), "--tools", "ferrule.tools.calculator:calculator",
        "--eval-tasks", "4", "--memory", str(tmp_path / "lib.sqlite"), "--memory-batch", "2", "--json", *more,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_an_evaluation_streams_and_its_controls_keep_nothing(tmp_path: Path, told: list[str]) -> None:
    for control in ("off", "frozen"):
        data = evaluated(tmp_path, "--memory-control", control)
        assert data["memory"]["entries"] == 0
        assert [point["recalled"] for point in data["curve"]] == [0.0, 0.0]
    data = evaluated(tmp_path)
    assert data["settings"]["memory_control"] == "on"
    assert data["success"] == 1.0
    assert data["memory"]["entries"] >= 1
    assert [(point["tasks"], point["recalled"]) for point in data["curve"]] == [(2, 0.0), (4, 1.0)]
    before = data["memory"]["entries"]
    shuffled = evaluated(tmp_path, "--memory-control", "shuffled")
    assert [point["recalled"] for point in shuffled["curve"]] == [1.0, 1.0]
    assert shuffled["memory"]["entries"] >= before


def test_a_writer_is_asked_and_metered(tmp_path: Path, told: list[str]) -> None:
    data = evaluated(tmp_path, "--memory-writer", "smollm2-135m", "--num-generations", "2")
    assert data["learning"]["writer"]["asks"] == 4
    assert "Rollout 2:" in next(text for text in told if "Compare these rollouts" in text)
    library = Library(tmp_path / "lib.sqlite")
    assert {entry.text for entry in library.entries()} == {"If a sum is asked for, use the calculator."}
    library.close()
    text = ran(
        "eval", "--dataset", tasks_of(tmp_path), "--tools", "ferrule.tools.calculator:calculator", "--eval-tasks", "2",
        "--memory", str(tmp_path / "lib.sqlite"),
    )  # fmt: skip
    assert "after 2 tasks: success 100.0% in this batch" in text.stdout


def test_a_paper_says_what_is_learned_and_recalled(tmp_path: Path, told: list[str]) -> None:
    """The script answers every other question with a call, so that the documents it writes are empty ones."""
    data = evaluated(tmp_path, "--memory-writer", "smollm2-135m", "--memory-by", "xskill")
    assert data["settings"]["memory_by"] == "xskill"
    assert data["by_role"]["adapter"]["asks"] >= 1
    assert data["learning"]["writer"]["asks"] >= 4
    assert any("Split this task" in text for text in told)
    assert any("Write a skill document" in text for text in told)
    assert not any("Tidy these experiences" in text for text in told), "below ten entries nothing is tidied"


def test_a_paper_tidies_its_library_once_in_the_end(tmp_path: Path, told: list[str]) -> None:
    library = Library(tmp_path / "lib.sqlite")
    for number in range(10):
        library.add(f"tip {'abcdefghij'[number] * 9} of its own")
    library.close()
    evaluated(tmp_path, "--memory-writer", "smollm2-135m", "--memory-by", "xskill")
    assert sum("Tidy these experiences" in text for text in told) == 1
    assert "Tidy these experiences" in told[-1]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (("--memory-control", "off"), "--memory-control would do nothing without --memory"),
        (("--memory", "lib.sqlite", "--memory-control", "of"), "did you mean 'off'"),
        (("--memory", "lib.sqlite", "--paired"), "--paired or --memory"),
        (("--memory", "lib.sqlite", "--memory-by", "xskill"), "give --memory-writer"),
        (
            ("--memory", "lib.sqlite", "--memory-writer", "pocket", "--memory-by", "otc"),
            "no memory that learns; known: ",
        ),
        (("--memory", "lib.sqlite", "--memory-writer", "pocket", "--memory-by", "xskil"), "did you mean 'xskill'"),
        (("--memory", "lib.sqlite", "--memory-control", "frozen", "--memory-writer", "x"), "nothing is written"),
        (("--memory", "lib.sqlite", "--memory-writer", "x", "--record", "c"), "cassettes do not keep"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = ran("eval", "arithmetic", "--eval-tasks", "2", *more)
    assert result.exit_code == 2
    assert problem in result.stderr


def test_a_library_is_shown_exported_and_pruned(tmp_path: Path) -> None:
    path = str(tmp_path / "lib.sqlite")
    assert ran("memory", "add", path, "read the docs", "--when", "an unknown tool").stdout == "E1\n"
    ran("memory", "add", path, "a document", "--skill")
    library = Library(path)
    library.modify("E1", text="read the description", note="shorter")
    library.credit("t", 1.0, [])
    library.credit("t", 0.0, ["E1"])
    library.close()
    table = ran("memory", "show", path).stdout
    assert "read the description" in table
    assert "-1.00" in table
    one = ran("memory", "show", path, "E1").stdout
    assert "E1 (experience, live), version 2" in one
    assert "version 1: an unknown tool: read the docs" in one
    assert "by person" in one
    assert "modify E1 (shorter)" in one
    assert json.loads(ran("memory", "show", path, "--json").stdout)["entries"][1]["kind"] == "skill"
    page, lines = tmp_path / "page.md", tmp_path / "entries.jsonl"
    assert ran("memory", "export", path, str(page)).exit_code == 0
    assert "## E1" in page.read_text()
    assert json.loads(ran("memory", "export", path, str(lines), "--json").stdout)["entries"] == 2
    assert len(lines.read_text().splitlines()) == 2
    assert "say what to retire" in ran("memory", "prune", path).stderr
    assert ran("memory", "prune", path, "--worth", "0", "--shown", "1").stdout == "retired: E1; 1 entries are left\n"
    assert "retired" in ran("memory", "show", path, "--every").stdout
    assert json.loads(ran("memory", "prune", path, "--writer", "person", "--json").stdout) == {
        "retired": ["E2"],
        "entries": 0,
    }


def test_a_missing_library_and_an_unknown_entry_are_refused(tmp_path: Path) -> None:
    missing = ran("memory", "show", str(tmp_path / "none.sqlite"))
    assert missing.exit_code == 2
    assert "no library" in missing.stderr
    assert not (tmp_path / "none.sqlite").exists()
    (tmp_path / "empty.sqlite").touch()
    for words in (("show",), ("export", str(tmp_path / "out.md")), ("prune", "--limit", "3")):
        empty = ran("memory", words[0], str(tmp_path / "empty.sqlite"), *words[1:])
        assert (empty.exit_code, "no library" in empty.stderr) == (2, True), empty.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["empty.sqlite"]
    assert not (tmp_path / "empty.sqlite").stat().st_size
    path = str(tmp_path / "lib.sqlite")
    ran("memory", "add", path, "x")
    unknown = ran("memory", "show", path, "E2")
    assert "unknown entry 'E2'; known: E1" in unknown.stderr


def test_a_library_is_not_overwritten_and_its_texts_move_no_cursor(tmp_path: Path) -> None:
    path = str(tmp_path / "lib.sqlite")
    ran("memory", "add", path, "a \x1b[31mred\x1b[0m text", "--when", "b\x07")
    onto = ran("memory", "export", path, path)
    assert "is the library itself" in onto.stderr
    for shown in (ran("memory", "show", path), ran("memory", "show", path, "E1")):
        assert "\\x1b[31mred" in shown.output
        assert not {"\x1b", "\x07"} & set(shown.output)
    refused = ran("memory", "prune", path, "--limit", "-1")
    assert "limit is -1; the least is 0" in refused.stderr
    absent = ran("memory", "add", str(tmp_path / "none" / "lib.sqlite"), "x")
    assert absent.exit_code == 2
    assert "cannot be opened as a library" in absent.stderr


def test_training_keeps_episodes_and_its_checkpoint_holds_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("train", "--max-steps", "1", "--eval-tasks", "1", "--save-steps", "1", "--memory", "lib.sqlite", "--json",
             "--per-device-train-batch-size", "4", "--num-generations", "4", "--gradient-accumulation-steps", "1")  # fmt: skip
    done = ran(*small, "--world", "apis", "--levels", "1")
    assert done.exit_code == 0, done.output
    library = Library("lib.sqlite")
    kept = [row for row in library.store.log() if row["kind"] == "keep"]
    assert len(kept) == 4, "one group of four, and nothing of the evaluations"
    rows = [json.loads(line) for line in Path("runs/train/metrics.jsonl").read_text().splitlines()]
    assert [row["memory/entries"] for row in rows if row["phase"] == "train"] == [len(library)]
    held = [path.read_text() for path in Path("runs/train/checkpoint-1").glob("*.json")]
    assert any('"memory"' in text and '"versions"' in text for text in held)
    assert json.loads(Path("runs/train/settings.json").read_text())["memory"] == "lib.sqlite"
    library.close()
    with pytest.raises(click.UsageError, match="a method of several parts"):
        with_memory(Method((fe.grpo(),)), Path("lib.sqlite"))
