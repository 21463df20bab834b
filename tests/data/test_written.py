"""Preferences that were written to a file are the same ids and messages when they are read again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.toys import layout

from ferrule.core.records import Call, Message, Tool
from ferrule.data.formats import Pair, Row
from ferrule.data.layout import laid_out
from ferrule.data.records import AS_WRITTEN, Labelled, Preference
from ferrule.data.sets import read_records, unpaired
from ferrule.data.written import preference_row, spelled_out, write_preferences
from ferrule.policies.scripted import END_ID, decode, encode

RENDERER = layout()


def ids_of(text: str) -> tuple[int, ...]:
    return encode(text, RENDERER.end)


def text_of(ids: Sequence[int]) -> str:
    return decode(ids, RENDERER.end)


def row(prompt: str, reply: str) -> Row:
    before, after = ids_of(prompt), ids_of(reply)
    return Row((*before, *after), (*[-1] * len(before), *[0] * len(after)))


FRAGMENTS = Pair(row("ask: ", '{"name": "f'), row("ask: ", f"no{RENDERER.end}"))
NUMBERS = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
TIMES = {"name": "times", "description": "Multiply.", "parameters": NUMBERS}
CALLED = Preference(
    (Message("user", "2 times 3?"),),
    (Message("assistant", "so ", (Call("times", {"a": 2, "b": 3}, id="call_0"),)),),
    (Message("assistant", "5"),),
    (Tool.from_schema(TIMES),),
    {"task": "t", "step": 0},
)


def test_texts_have_an_end_token_only_where_the_model_wrote_one(tmp_path: Path) -> None:
    preference = spelled_out(FRAGMENTS, ids_of, text_of, task="t", place=3)
    origin = {"task": "t", "place": 3}
    expected = Preference("ask: ", '{"name": "f', f"no{RENDERER.end}", origin=origin, spelled_out=True)
    assert preference == expected
    assert laid_out(expected, RENDERER, ids_of) == FRAGMENTS
    assert END_ID in laid_out(replace(expected, spelled_out=False), RENDERER, ids_of).chosen.ids  # type: ignore[union-attr]
    assert write_preferences(tmp_path / "pairs.jsonl", [expected]) == 1
    (read,) = read_records(tmp_path / "pairs.jsonl", ["preference"], held_out=0).train
    assert laid_out(read, RENDERER, ids_of) == FRAGMENTS
    good, bad = (laid_out(half, RENDERER, ids_of) for half in unpaired(read))
    assert (good, bad) == (FRAGMENTS.chosen, replace(FRAGMENTS.rejected, label=False))


def test_messages_are_read_as_they_were_written(tmp_path: Path) -> None:
    after = (Message("tool", "6", name="times", call_id="call_0"), Message("assistant", "6"))
    whole = replace(CALLED, chosen=(*CALLED.chosen, *after))  # type: ignore[arg-type]
    write_preferences(tmp_path / "pairs.jsonl", [CALLED, whole])
    lines = (tmp_path / "pairs.jsonl").read_text().splitlines()
    assert [json.loads(line)["origin"] for line in lines] == [{"task": "t", "step": 0}] * 2
    assert read_records(tmp_path / "pairs.jsonl", ["preference"], held_out=0).train == tuple(
        replace(preference, origin={}) for preference in (CALLED, whole)
    )


def test_ids_that_their_text_would_not_be_read_as_are_not_spelled_out() -> None:
    letters = {1: "a", 2: "b", 3: "ab"}

    def joined(text: str) -> list[int]:
        return [3 if part == "ab" else 1 if part == "a" else 2 for part in text.replace("ab", " ab ").split()]

    def spelled(ids: Sequence[int]) -> str:
        return "".join(letters[i] for i in ids)

    rows = [Row((2, *ids), (-1, *[0] * len(ids))) for ids in ((3,), (1, 2), (2,))]
    assert spelled_out(Pair(rows[0], rows[2]), joined, spelled) is None  # "bb" is no word of this toy: one id, not two
    assert spelled_out(Pair(rows[0], rows[1]), joined, spelled) is None  # "ab" is read as 3
    assert spelled_out(Pair(rows[0], rows[0]), joined, spelled) == Preference("b", "ab", "ab", spelled_out=True)


def test_what_texts_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="different prompts"):
        spelled_out(Pair(row("ask: ", "a"), row("say: ", "b")), ids_of, text_of)
    several = Row((*ids_of("ask: "), 1, 2, 3), (*[-1] * 5, 0, -1, 1))
    with pytest.raises(ValueError, match="several turns"):
        spelled_out(Pair(several, several), ids_of, text_of)
    broken = Message("assistant", "", (Call("times", {}, problem="not JSON"),))
    with pytest.raises(ValueError, match="could not be read"):
        preference_row(replace(CALLED, rejected=(broken,)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chat_template_kwargs": {"enable_thinking": False}}, "asks for another layout"),
        ({"chosen": [{"role": "assistant", "content": "a"}] * 2}, "one message in each column"),
        ({"prompt": None}, "one message in each column"),
    ],
)
def test_rows_of_another_layout_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    spelled = spelled_out(FRAGMENTS, ids_of, text_of)
    assert spelled is not None
    columns = preference_row(spelled)
    assert columns["chat_template_kwargs"] == {"chat_template": AS_WRITTEN}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(columns | change))
    with pytest.raises(ValueError, match=message):
        read_records(tmp_path / "pairs.jsonl", ["preference"], held_out=0)


def test_a_file_has_rows_of_one_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two files"):
        write_preferences(tmp_path / "pairs.jsonl", [CALLED, replace(CALLED, spelled_out=True)])
    assert not (tmp_path / "pairs.jsonl").exists()
    assert unpaired(Labelled("a", "b", True)) == (Labelled("a", "b", True),)
