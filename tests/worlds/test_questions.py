"""Benchmarks of questions: found in folders and files of many forms, read by their columns, judged as published."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Task
from ferrule.evaluate.evaluate import evaluate
from ferrule.policies.scripted import Scripted
from ferrule.worlds.named import world

GSM8K = [{"question": f"How many in {i}?", "answer": f"2*{i}=<<2*{i}={2 * i}>>\n#### {2 * i}"} for i in range(1, 21)]
CONTEXT = [["Rome", ["Rome is old.", " It lies on the Tiber."]], ["Oslo", ["Oslo lies in Norway."]]]
HOTPOT = [
    {"_id": "a", "question": "On which river lies Rome?", "answer": "the Tiber", "type": "bridge", "level": "hard",
     "supporting_facts": [["Rome", 1]], "context": CONTEXT},
    {"_id": "b", "question": "Is Oslo in Norway?", "answer": "yes", "type": "comparison", "level": "easy",
     "supporting_facts": [["Oslo", 0]], "context": CONTEXT},
]  # fmt: skip


def write(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tasks_of(name: str, split: str = "test", **options: Any) -> list[Task]:
    return world(name, **options).tasks(split, 1000)


def test_the_number_after_the_mark_is_the_answer(tmp_path: Path) -> None:
    write(tmp_path / "gsm8k" / "train.jsonl", {"question": "How many?", "answer": "2*3=<<2*3=6>>6\n#### 1,206"})
    write(tmp_path / "gsm8k" / "test_first_half.jsonl", {"question": "How much?", "answer": "so\n#### -$3.50"})
    (train,), (test,) = tasks_of("gsm8k", "train", data=tmp_path), tasks_of("gsm8k", data=tmp_path)
    assert (train.answer, test.answer, train.meta) == ("1206", "-3.50", {"verifier": "numeric"})
    write(tmp_path / "gsm8k" / "train.jsonl", {"question": "How many?", "answer": "six"})
    with pytest.raises(ValueError, match="line 1: the answer has no number after '#### '"):
        world("gsm8k", data=tmp_path)


def forms(place: Path) -> dict[str, tuple[Path, int]]:
    """The same twenty rows in every form, with the number of test tasks that each gives."""
    import datasets

    place.mkdir()
    table = datasets.Dataset.from_list(GSM8K)
    table.to_parquet(str(place / "test-00000-of-00001.parquet"))
    table.to_csv(str(place / "test.csv"))
    table.save_to_disk(str(place / "stored" / "test"))
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(str(place / "both"))
    (place / "test.json").write_text(json.dumps(GSM8K))
    (place / "test.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, GSM8K)).encode()))
    write(place / "folder" / "data" / "test.jsonl", *GSM8K)
    write(place / "mine.jsonl", *GSM8K)
    divided = len(tasks_of("gsm8k", data=place / "mine.jsonl"))
    assert 0 < divided < 20, "a file that tells no split is divided"
    names = ("test-00000-of-00001.parquet", "test.csv", "test.json", "test.jsonl.gz", "folder", "both")
    return {**{name: (place / name, 20) for name in names}, "mine.jsonl": (place / "mine.jsonl", divided),
            "stored": (place / "stored" / "test", divided)}  # fmt: skip


def test_any_form_of_the_right_columns_is_the_same_benchmark(tmp_path: Path) -> None:
    for name, (path, count) in forms(tmp_path / "forms").items():
        tasks = tasks_of("gsm8k", data=path)
        assert len(tasks) == count, name
        assert {(task.prompt, task.answer) for task in tasks} <= {
            (row["question"], str(2 * i)) for i, row in enumerate(GSM8K, 1)
        }, name


@pytest.mark.parametrize(
    ("name", "row", "answer", "meta"),
    [
        ("math500", {"problem": "p", "solution": "s", "answer": "\\frac{1}{2}", "subject": "Algebra", "level": 3,
                     "unique_id": "test/1.json"}, "\\frac{1}{2}",
         {"verifier": "math-verify", "subject": "Algebra", "level": 3}),
        ("aime", {"ID": "2024-I-1", "Problem": "p", "Solution": "s", "Answer": 73}, 73, {"verifier": "numeric"}),
        ("aime", {"id": 60, "problem": "p", "solution": "s", "answer": "073", "url": "u", "year": "2024"}, "073",
         {"verifier": "numeric", "year": "2024"}),
        ("aime", {"input": "p", "output": "45"}, "45", {"verifier": "numeric"}),
        ("tara_calendar", {"question": "p", "pos_answer": {"answer": "2008-06-16 is Monday"}, "neg_answer": {}},
         "Monday", {"verifier": "exact"}),
        ("tara_calculator", {"question": "p", "pos_answer": {"answer": "so\n#### 25%"}}, "25", {"verifier": "numeric"}),
    ],
)  # fmt: skip
def test_columns_as_they_are_published(tmp_path: Path, name: str, row: Any, answer: Any, meta: Any) -> None:
    home: Any = world(name, data=write(tmp_path / "test.jsonl", row))
    (task,) = home.tasks("test", 9)
    assert (task.prompt, task.answer, task.meta, home.notes) == ("p", answer, meta, ())
    assert [tool.name for tool in home.start(task).tools] == ["calculator"]


def test_published_names_of_files(tmp_path: Path) -> None:
    problems = [{"question": f"q{i}", "answer": "1"} for i in range(3)]
    write(tmp_path / "competition_math" / "math500_even.jsonl", *problems)
    for year in ("24", "25"):
        write(tmp_path / "competition_math" / f"aime{year}.jsonl", {"input": f"q{year}", "output": "4"})
    write(tmp_path / "tara" / "calendar_train.jsonl", {"question": "q", "pos_answer": {"answer": "x is Monday"}})
    write(tmp_path / "hotpotqa" / "hotpot_dev_distractor_v1.json", *HOTPOT)
    write(tmp_path / "hotpotqa" / "hotpot_train_v1.1.json", HOTPOT[0])
    counts = {name: world(name, data=tmp_path).sizes for name in ("math500", "aime", "tara_calendar", "hotpotqa")}  # type: ignore[attr-defined]
    assert counts == {
        "math500": {"train": 0, "test": 3}, "aime": {"train": 0, "test": 2}, "tara_calendar": {"train": 0, "test": 1},
        "hotpotqa": {"train": 1, "test": 2},
    }  # fmt: skip
    with pytest.raises(ValueError, match="its rows are for tests only"):
        world("math500", data=tmp_path).tasks("train", 1)


def test_rows_for_training_alone_leave_some_to_measure_on(tmp_path: Path) -> None:
    home: Any = world("gsm8k", data=write(tmp_path / "train.jsonl", *GSM8K))
    assert sum(home.sizes.values()) == 20
    assert all(home.sizes.values())


def test_a_column_of_known_meaning_is_not_passed_over(tmp_path: Path) -> None:
    home: Any = world("gsm8k", data=write(tmp_path / "test.jsonl", {**GSM8K[0], "response": "five"}))
    assert home.notes == ("not used: 'response'; read as 'tasks' from question, answer",)
    named = write(tmp_path / "test_named.jsonl", {"q": "How many?", "a": "#### 3"})
    with pytest.raises(ValueError, match=r"test_named.jsonl, line 1: the columns 'q', 'a' make up no format"):
        world("gsm8k", data=named)
    (task,) = tasks_of("gsm8k", data=named, prompt_field="q", answer_field="a", verifier="exact")
    assert (task.prompt, task.answer, task.meta["verifier"]) == ("How many?", "3", "exact")


@pytest.mark.parametrize(
    "context",
    [
        CONTEXT,
        [{"title": title, "sentences": sentences} for title, sentences in CONTEXT],
        {"title": ["Rome", "Oslo"], "sentences": [sentences for _, sentences in CONTEXT]},
    ],
)
def test_paragraphs_of_the_rows_are_searched(tmp_path: Path, context: Any) -> None:
    home = world("hotpotqa", data=write(tmp_path / "dev.jsonl", *({**row, "context": context} for row in HOTPOT)))
    task = next(task for task in home.tasks("test", 2) if "river" in task.prompt)
    session = home.start(task)
    assert session.act(Call("search", {"query": "Tiber"})).text == "[1] Rome\nRome is old. It lies on the Tiber."
    assert task.meta["level"] == "hard"
    assert "context" not in task.meta
    with pytest.raises(ValueError, match=r"dev.jsonl, line 1: 'context' holds no paragraphs"):
        world("hotpotqa", data=write(tmp_path / "dev.jsonl", {**HOTPOT[0], "context": [["Rome"]]}))


def test_passages_beside_the_rows_are_searched_instead(tmp_path: Path) -> None:
    write(tmp_path / "passages.jsonl", {"title": "Po", "text": "The Po is long."})
    home: Any = world("hotpotqa", data=write(tmp_path / "dev.jsonl", *HOTPOT))
    session = home.start(home.tasks("test", 1)[0])
    assert session.act(Call("search", {"query": "Tiber"})).text == "no document contains these words"
    bare = [{key: row[key] for key in ("question", "answer")} for row in HOTPOT]
    alone: Any = world("hotpotqa", data=write(tmp_path / "alone" / "dev.jsonl", *bare))
    assert (alone.tools, alone.notes) == ((), ("no paragraphs to search came with the rows",))


def test_hotpotqa_is_judged_by_exact_match_and_f1(tmp_path: Path) -> None:
    home = world("hotpotqa", data=write(tmp_path / "dev.jsonl", *HOTPOT))
    tasks = sorted(home.tasks("test", 2), key=lambda task: task.prompt)
    assert tasks[1].prompt.endswith("as <answer>...</answer>.")

    def reply(ask: Ask, sample: int) -> str:
        river = "river" in str(ask.messages[-1].content)
        return "It flows.\n<answer>The river Tiber.</answer>" if river else "<answer>Yes!</answer>"

    evaluation = evaluate(ToolLoop(), Scripted(reply), home, tasks)
    # Exact: "yes" is right, "river tiber" is not "tiber". F1: 1, and 2 * 1 / (2 + 1).
    assert evaluation.values == (1.0, 0.0)
    assert [row.also["f1"] for row in evaluation.rows] == pytest.approx([1.0, 2 / 3])
    assert evaluation.as_dict()["also"]["f1"]["value"] == pytest.approx(5 / 6)
    by_f1 = [task.meta for task in tasks_of("hotpotqa", data=tmp_path / "dev.jsonl", verifier="f1")]
    assert all(meta["verifier"] == "f1" and "also_by" not in meta for meta in by_f1)


def test_where_data_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FERRULE_DATA", raising=False)
    monkeypatch.setenv("FERRULE_HOME", str(tmp_path / "home"))
    with pytest.raises(FileNotFoundError, match=r"get it \(ferrule data gsm8k\), or say where it lies"):
        world("gsm8k")
    write(tmp_path / "home" / "data" / "gsm8k" / "test.jsonl", *GSM8K)
    assert len(tasks_of("gsm8k")) == 20
    write(tmp_path / "mine" / "gsm8k" / "test.jsonl", *GSM8K[:3])
    monkeypatch.setenv("FERRULE_DATA", str(tmp_path / "mine"))
    assert len(tasks_of("gsm8k")) == 3
    with pytest.raises(FileNotFoundError, match="no file and no folder"):
        world("gsm8k", data=tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no rows of 'gsm8k' in"):
        world("gsm8k", data=tmp_path / "home")
    with pytest.raises(ValueError, match="did you mean 'gsm8k'"):
        world("gsm8")
    with pytest.raises(ValueError, match="verifier would do nothing: 'restbench:tmdb' is a benchmark with its own"):
        world("restbench:tmdb", verifier="exact")
