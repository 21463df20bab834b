from __future__ import annotations

import re
from pathlib import Path

import pytest

from ferrule.worlds.columns import FORMATS, MEANINGS, recognise


@pytest.mark.parametrize(
    ("columns", "format", "fields"),
    [
        (["prompt", "answer"], "tasks", {"prompt": "prompt", "answer": "answer"}),
        (["ID", "Problem", "Solution", "Answer"], "tasks", {"prompt": "Problem", "answer": "Answer"}),
        (["messages", "tools"], "messages", {"messages": "messages", "tools": "tools"}),
        (["conversations", "system"], "messages", {"messages": "conversations", "system": "system"}),
        (["prompt", "completion"], "completion", {"prompt": "prompt", "completion": "completion"}),
        (["prompt", "completion", "label"], "labelled", {"prompt": "prompt", "completion": "completion", "label": "label"}),
        (["chosen", "rejected"], "preference", {"chosen": "chosen", "rejected": "rejected"}),
        (
            ["instruction", "input", "output"],
            "completion",
            {"prompt": "instruction", "completion": "output", "input": "input"},
        ),
        (["input", "output"], "completion", {"prompt": "input", "completion": "output"}),
        (["prompt", "completions", "labels"], "steps", {"prompt": "prompt", "completions": "completions", "labels": "labels"}),
        (["text", "url"], "text", {"text": "text"}),
        (["query"], "prompt", {"prompt": "query"}),
    ],
)  # fmt: skip
def test_formats_are_told_by_their_columns(columns: list[str], format: str, fields: dict[str, str]) -> None:
    recognised = recognise(columns)
    assert (recognised.format, dict(recognised.fields)) == (format, fields)


def test_columns_that_are_not_read_are_named() -> None:
    """The columns of a well-known set of preferences, which brings the preferred conversation a second time."""
    columns = ["prompt", "prompt_id", "chosen", "rejected", "messages", "score_chosen", "score_rejected"]
    recognised = recognise(columns)
    assert recognised.unused == ("messages",)
    assert recognised.others == ("prompt_id", "score_chosen", "score_rejected")
    named = "'messages', 'prompt_id', 'score_chosen', 'score_rejected'"
    assert recognised.note == f"not used: {named}; read as 'preference' from chosen, rejected, prompt"
    assert recognise(columns, ["messages"]).unused == ("prompt", "chosen", "rejected")
    assert recognise(["prompt", "answer"]).note == ""


@pytest.mark.parametrize(
    ("columns", "formats", "message"),
    [
        (["text", "tools"], ["text"], "the column 'tools' means something .* rows of format 'text' do not use"),
        (["prompt", "completion", "label"], ["messages", "completion"], "the column 'label' means something"),
        (["prompt", "completions", "labels", "system"], ["steps"], "the column 'system' means something"),
        (["chosen", "rejected"], ["messages", "completion"], "'preference' are read by ferrule prefer"),
        (["promt", "answer"], ["tasks"], r"for the prompt, did you mean 'promt'\?"),
        (["a", "b"], ["tasks"], "the columns 'a', 'b' make up no format that is read here .tasks: prompt . answer"),
        (["a"], ["task"], "unknown format 'task'; did you mean 'tasks'"),
    ],
)
def test_what_would_be_ignored_or_does_not_fit_is_refused(columns: list[str], formats: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recognise(columns, formats)


def test_columns_may_be_named() -> None:
    columns = ["q", "answer", "gold"]
    named = recognise(columns, ["tasks"], {"prompt": "q", "answer": "gold"})
    assert dict(named.fields) == {"prompt": "q", "answer": "gold"}
    assert named.unused == ("answer",)
    with pytest.raises(ValueError, match="no column 'golds' for the answer; did you mean 'gold'"):
        recognise(columns, ["tasks"], {"answer": "golds"})
    with pytest.raises(ValueError, match="unknown meaning 'promt'; did you mean 'prompt'"):
        recognise(columns, ["tasks"], {"promt": "q"})


def test_every_format_is_recognised_from_the_first_name_of_what_it_needs() -> None:
    for name, entry in FORMATS.items():
        assert recognise([MEANINGS[need][0] for need in entry.needs]).format == name


def test_the_page_on_data_lists_every_column_and_format() -> None:
    page = (Path(__file__).parents[2] / "docs" / "guide" / "data.md").read_text()
    rows = [
        [re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:-1]]
        for line in page.splitlines()
        if line.startswith("|")
    ]
    listed = {tuple(map(tuple, row[:3])) for row in rows}
    assert {((meaning,), names) for meaning, names in MEANINGS.items()} <= {entry[:2] for entry in listed}
    assert {((name,), entry.needs, entry.may) for name, entry in FORMATS.items()} <= listed
