from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.toys import layout

from ferrule.core.records import Message, Tool
from ferrule.data.formats import Pair, Row
from ferrule.data.layout import laid_out, shortened, whole
from ferrule.data.records import (
    Completion,
    Conversation,
    Labelled,
    Preference,
    Prompt,
    Record,
    Steps,
    Text,
    records,
)
from ferrule.policies.scripted import encode
from ferrule.worlds.columns import recognise
from ferrule.worlds.files import table

SCHEMA = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}


def read(*rows: dict[str, Any], tools: tuple[Tool, ...] = ()) -> list[Record]:
    rowed = table([(f"rows.jsonl, line {i}", row) for i, row in enumerate(rows, start=1)])
    return list(records(rowed, recognise(rowed.columns), tools))


def said(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


USER, GOOD, BAD = Message("user", "q"), Message("assistant", "good"), Message("assistant", "bad")


def test_texts_stay_texts() -> None:
    assert read({"text": "x"}) == [Text("x")]
    assert read({"prompt": "q", "completion": " a"}) == [Completion("q", " a")]
    assert read({"prompt": "q", "chosen": "a", "rejected": "b"}) == [Preference("q", "a", "b")]
    assert read({"prompt": "q", "completion": "a", "label": "False"}) == [Labelled("q", "a", False)]
    assert read({"prompt": "q", "completions": ["a", "b"], "labels": [1, 0]}) == [Steps("q", ("a", "b"), (True, False))]
    assert read({"question": "q"}) == [Prompt("q")]


def test_messages_with_tools_of_the_row() -> None:
    """Tools as schemas, as a JSON text, or as a list of JSON texts; nulls that another row's keys left are not there."""
    messages = said(("user", "q"), ("assistant", "good"))
    nulls = {**SCHEMA, "parameters": {**SCHEMA["parameters"], "required": None}, "strict": None}
    forms = [[SCHEMA], json.dumps([SCHEMA]), [json.dumps(SCHEMA)], [{"type": "function", "function": nulls}]]
    for form in forms:
        (record,) = read({"messages": messages, "tools": form})
        assert record == Conversation((USER, GOOD), (Tool.from_schema(SCHEMA),))
    known = Tool.from_schema(SCHEMA)
    assert read({"messages": messages, "tools": None}, tools=(known,)) == [Conversation((USER, GOOD), (known,))]
    assert read({"messages": messages, "tools": []}, tools=(known,)) == [Conversation((USER, GOOD))]
    with pytest.raises(ValueError, match=r"line 1: the row offers the tool 'g' by name; known: f"):
        read({"messages": messages, "tools": ["g"]}, tools=(known,))


def test_a_message_of_weight_0_is_not_learned() -> None:
    messages = [
        *said(("user", "q")),
        {"role": "assistant", "content": "bad", "weight": 0},
        *said(("user", "q"), ("assistant", "good")),
    ]
    (record,) = read({"messages": messages})
    assert record == Conversation((USER, BAD, USER, GOOD), (), (True, False, True, True))
    renderer = layout()
    row = laid_out(record, renderer, lambda text: encode(text, renderer.end))
    assert "".join(chr(i) for i, k in zip(row.ids, row.turn, strict=True) if k >= 0 and i < 256) == "good"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": said(("user", "q")), "chosen": said(("assistant", "good")), "rejected": said(("assistant", "bad"))},
        {"prompt": said(("user", "q")), "chosen": "good", "rejected": "bad"},
        {"prompt": "q", "chosen": said(("assistant", "good")), "rejected": said(("assistant", "bad"))},
        {"chosen": said(("user", "q"), ("assistant", "good")), "rejected": said(("user", "q"), ("assistant", "bad"))},
        {"prompt": "q", "chosen": said(("user", "q"), ("assistant", "good")), "rejected": said(("user", "q"), ("assistant", "bad"))},
    ],
)  # fmt: skip
def test_preferences_in_messages_come_in_five_forms(row: dict[str, Any]) -> None:
    assert read(row) == [Preference((USER,), (GOOD,), (BAD,))]


def test_what_both_texts_begin_with_is_the_prompt() -> None:
    assert read({"chosen": "The sky is blue", "rejected": "The sky is green"}) == [
        Preference("The sky is", " blue", " green")
    ]
    with pytest.raises(ValueError, match="line 1: chosen and rejected share no beginning"):
        read({"chosen": "a", "rejected": "b"})


WORDS = st.lists(st.sampled_from(["one", "two", "three"]), min_size=1, max_size=4).map(" ".join)


@given(st.lists(WORDS, min_size=1, max_size=3), WORDS, WORDS)
@settings(max_examples=40, deadline=None)
def test_a_shared_beginning_gives_back_the_prompt_it_was_joined_from(
    turns: list[str], chosen: str, rejected: str
) -> None:
    """Questions and answers in turn; the prompt ends with the last question."""
    prompt = [m for t in turns for m in (Message("user", t), Message("assistant", "ok"))][:-1]
    rows = [said(*((m.role, str(m.content)) for m in prompt), ("assistant", answer)) for answer in (chosen, rejected)]
    assert read({"chosen": rows[0], "rejected": rows[1]}) == [
        Preference(tuple(prompt), (Message("assistant", chosen),), (Message("assistant", rejected),))
    ]


def test_instructions_are_conversations() -> None:
    (record,) = read({"instruction": "do", "input": "this", "output": "done", "system": "s", "history": [["x", "y"]]})
    prompt = (Message("system", "s"), Message("user", "x"), Message("assistant", "y"), Message("user", "do\nthis"))
    assert record == Completion(prompt, (Message("assistant", "done"),))
    assert read({"instruction": "do", "input": "", "output": "done"}) == [
        Completion((Message("user", "do"),), (Message("assistant", "done"),))
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": "hello"}, "line 1: the field 'messages' must be a list of messages"),
        ({"messages": []}, "line 1: the field 'messages' must be a list of messages"),
        ({"messages": said(("user", "q"), ("robot", "x"))}, "line 1: message 1: role is 'robot'"),
        (
            {"messages": said(("system", "s"), ("user", "q"))},
            "line 1: the field 'messages' has no message of the assist",
        ),
        (
            {"messages": said(("assistant", "a"), ("user", "q"))},
            "line 1: the field 'messages' begins with a message of",
        ),
        (
            {"prompt": said(("user", "q")), "completion": said(("user", "r"))},
            "'completion' has no message of the assist",
        ),
        ({"prompt": "q", "completion": ""}, "line 1: the field 'completion': must be a text that is not empty"),
        ({"prompt": "q", "completion": "a", "label": "good"}, "line 1: the field 'label' is 'good'; it must be true"),
        (
            {"prompt": "q", "chosen": "a", "rejected": said(("user", "b"))},
            "line 1: one of chosen and rejected is a text",
        ),
        (
            {"prompt": "q", "completions": ["a"], "labels": [True, False]},
            "line 1: the field 'labels' must be a list of 1",
        ),
        ({"prompt": "q", "answer": "a"}, "rows of format 'tasks' make no records"),
    ],
)
def test_rows_that_cannot_be_read_are_told_with_their_place(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(row)


def test_records_are_laid_out_with_what_follows_the_prompt_to_learn() -> None:
    renderer = layout()

    def spelled(record: Record) -> list[str]:
        laid = laid_out(record, renderer, lambda text: encode(text, renderer.end))
        rows = [laid] if hasattr(laid, "ids") else [laid.chosen, laid.rejected]
        letters = [[("/" if i == 256 else chr(i), k >= 0) for i, k in zip(r.ids, r.turn, strict=True)] for r in rows]
        return ["".join(c.upper() if own else c for c, own in row) for row in letters]

    assert spelled(Text("abc")) == ["aBC/"]
    assert spelled(Completion("q:", "yes")) == ["q:YES/"]
    assert spelled(Completion((USER,), (GOOD,))) == ["<|user|>q/<|assistant|>GOOD/"]
    shown = (USER, BAD, USER)
    assert spelled(Completion(shown, (GOOD,))) == ["<|user|>q/<|assistant|>bad/<|user|>q/<|assistant|>GOOD/"]
    assert spelled(Preference("q", "yes", "no")) == ["qYES/", "qNO/"]
    assert not laid_out(Labelled("q", "a", False), renderer, lambda text: encode(text, renderer.end)).label  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="a Prompt makes no row to learn from"):
        spelled(Prompt("q"))


def test_whole_rows_are_learned_but_for_their_first_token() -> None:
    row = Row((1, 2, 3, 4, 5, 6), (-1, -1, 0, -1, 1, 1))
    assert whole(row).turn == (-1, 0, 0, 0, 1, 1)
    assert whole(Row((1, 2), (0, 0))).turn == (-1, 0)


def test_rows_are_cut_and_those_without_anything_to_learn_are_left_out() -> None:
    row = Row((1, 2, 3, 4), (-1, -1, 0, 0), label=False)
    assert shortened(row, 9) == row
    assert shortened(row, 3) == Row((1, 2, 3), (-1, -1, 0), label=False)
    assert shortened(row, 2) is None
    late = Row((1, 2, 3, 4), (-1, -1, -1, 0))
    assert shortened(Pair(row, late), 4) == Pair(row, late)
    assert shortened(Pair(row, late), 3) is None
