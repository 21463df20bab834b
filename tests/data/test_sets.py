from __future__ import annotations

import json
from pathlib import Path

import pytest

from ferrule.core.records import Message, Tool
from ferrule.data.records import Completion, Conversation, Labelled, Preference, Text
from ferrule.data.sets import prompt_of, read_records, unpaired
from ferrule.worlds.user import from_file

_FORMATS = ("messages", "completion", "text")


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_fifth_of_the_prompts_at_most_is_held_out(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"prompt": str(i % 50), "completion": str(i)} for i in range(100)])
    data = read_records(path, _FORMATS)
    assert len(data.train) + len(data.held_out) == 100
    assert 4 <= len(data.held_out) <= 36
    assert not {prompt_of(record) for record in data.train} & {prompt_of(record) for record in data.held_out}
    few = read_records(path, _FORMATS, held_out=2)
    assert len(few.held_out) == 2
    asked = {prompt_of(record) for record in few.held_out}
    assert len(few.train) == sum(str(i % 50) not in asked for i in range(100))
    assert len(read_records(path, _FORMATS, held_out=0).train) == 100


def test_the_split_test_is_held_out_where_there_is_one(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [{"text": "a"}, {"text": "b"}])
    write(tmp_path / "validation.jsonl", [{"text": "c"}, {"text": "d"}])
    data = read_records(tmp_path, _FORMATS, held_out=1)
    assert (data.train, data.held_out) == ((Text("a"), Text("b")), (Text("c"),))


def test_a_single_row_trains(tmp_path: Path) -> None:
    data = read_records(write(tmp_path / "one.jsonl", [{"text": "a", "source": "me"}]), _FORMATS)
    assert (data.train, data.held_out) == ((Text("a"),), ())
    assert data.notes == ("not used: 'source'; read as 'text' from text",)


def test_the_context_of_a_question_is_part_of_the_prompt_and_other_columns_are_named(tmp_path: Path) -> None:
    row = {"instruction": "Who?", "context": "Bob did it.", "response": "Bob", "category": "qa", "tools": ""}
    data = read_records(write(tmp_path / "rows.jsonl", [row]), ["completion"])
    asked = (Message("user", "Who?\nBob did it."),)
    assert data.train == (Completion(asked, (Message("assistant", "Bob"),)),)
    assert data.notes == (
        "not used: 'category'; read as 'completion' from instruction, response, tools, context",
    )  # fmt: skip


def test_a_context_that_is_no_text_stays_with_the_task(tmp_path: Path) -> None:
    rows = [
        {"question": f"Who {i}?", "answer": "Bob", "context": context} for i, context in enumerate(["Hm.", ["Rome"]])
    ]
    tasks = [
        task for split in ("train", "test") for task in from_file(write(tmp_path / "t.jsonl", rows)).tasks(split, 9)
    ]
    said = {task.prompt: task.meta.get("context") for task in tasks}
    assert said == {"Who 0?\nHm.": None, "Who 1?": ["Rome"]}


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_refused_as_one(text: str, tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"none.jsonl holds no rows"):
        read_records(path, _FORMATS)


def test_a_data_set_without_rows_to_train_on_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", [{"text": "c"}])
    write(tmp_path / "train.jsonl", [])
    with pytest.raises(ValueError, match=r"holds no rows of the split 'train'"):
        read_records(tmp_path, _FORMATS)


def test_prompts_are_what_comes_before_the_first_reply() -> None:
    user, reply, more = Message("user", "?"), Message("assistant", "!"), Message("user", "more")
    first, second = Conversation((user, reply)), Conversation((user, Message("assistant", "other"), more, reply))
    assert prompt_of(first) == prompt_of(second) != prompt_of(Conversation((more, reply)))
    assert prompt_of(Completion("a", "b")) == prompt_of(Text("a")) == "a"


def test_pairs_are_taken_apart() -> None:
    tool = Tool("f", "", {}, print)
    good, bad = unpaired(Preference("a", "b", "c", (tool,)))
    assert (good, bad) == (Labelled("a", "b", True, (tool,)), Labelled("a", "c", False, (tool,)))
    assert unpaired(good) == (good,)
