"""Records and values as JSON: what is written reads back equal, and anybody can read the lines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferrule.core.exact import decode, encode, line_of, plain, read, text_of, write
from ferrule.core.flows import Leaf
from ferrule.core.records import Artifact, Call, Image, Message, Observation, Reply, Score, Span, Task, Tool, Turn

RECORDS = (
    Message("user", ("look", Image("a.png"))),
    Message("assistant", "x", (Call("f", {"a": (1, {2})}, "c", "<raw>", "", ("json",)),)),
    Observation("t", "timeout", {"deep": [float("inf"), b"\x00", (1, 2)]}, (Artifact("a", "text/plain", 1),), 0.5),
    Reply(Message("assistant", "y"), (1, 2), (3,), (-0.25,), "length", (Span("call", 0, 1),), {"entropy": (0.5,)}),
    Task("t", "p", answer={1: "one"}, tools=(), meta={"state": {"x": {1, 2}}}),
    Task("t", "p", tools=None),
    Turn(0, None, (1,), (2,), (-math.inf,), Message("assistant", "z"), observations=(Observation("o"),)),
    Leaf(Message("assistant", "a"), "4", final={"x": 1}),
    Score(-0.0, (1.0, 2.0), {"outcome": 1.0}),
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_come_back_equal_by_type_and_by_tag(record: Any) -> None:
    assert read(type(record), json.loads(line_of(write(record)))) == record
    assert decode(json.loads(line_of(encode({"one": (record,)})))) == {"one": (record,)}
    assert math.copysign(1, read(Score, write(Score(-0.0))).value) == -1


def test_what_a_record_declares_stands_without_tags_and_defaults_are_left_out() -> None:
    written = write(Turn(0, None, (1, 2), (3,), (-0.5,), Message("assistant", "z")))
    assert written == {
        "id": 0, "parent": None, "given": [1, 2], "sampled": [3], "logps": [-0.5],
        "reply": {"role": "assistant", "content": "z"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "odd",
    [
        Observation(7, "ok"),  # type: ignore[arg-type]
        Observation("x", "strange"),  # type: ignore[arg-type]
        Call("f", [1, 2]),  # type: ignore[arg-type]
        Call("f", {1: 2}),  # type: ignore[dict-item]
        Message("user", ["a", 1]),  # type: ignore[arg-type]
        replace(RECORDS[6], given=[1, 2]),  # type: ignore[type-var]
        replace(RECORDS[6], given=(True, 2.5)),  # type: ignore[type-var]
    ],
)
def test_fields_of_another_type_than_declared_come_back_too(odd: Any) -> None:
    back = read(type(odd), json.loads(line_of(write(odd))))
    assert back == odd
    assert repr(back) == repr(odd)


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ([], "Message is an object, not list"),
        ({}, "Message.role is missing"),
        ({"role": "nobody"}, 'Message.role cannot be "nobody"'),
        ({"role": "user", "content": 3}, "Message.content cannot be 3"),
        ({"role": "user", "calls": [1]}, "Message.calls cannot be 1"),
        ({"role": "user", "calls": [{"name": "f", "arguments": []}]}, "Call.arguments"),
        ({"role": "user", "name": {"!": "surprise"}}, "unknown kind 'surprise'"),
        ({"role": "user", "name": {"!": "tuple"}}, "kind 'tuple' is invalid"),
    ],
)
def test_data_that_is_no_such_record_is_refused_with_the_field(data: Any, where: str) -> None:
    with pytest.raises(ValueError, match=where):
        read(Message, data)


def test_a_tool_comes_back_without_its_function() -> None:
    tool = Tool("f", "does", {"type": "object"}, run=lambda: 1, output={"type": "integer"}, seconds=2.0)
    back = read(Tool, json.loads(line_of(write(tool))))
    assert back == tool
    assert back.run().status == "refused"


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: float
    where: Path


class Loud(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise RuntimeError("no")

    def __iter__(self) -> Any:
        return iter(("a",))

    def __len__(self) -> int:
        return 1


OTHERS = (
    (Colour.RED, "red"),
    (Point(math.nan, Path("/tmp/x")), {"x": None, "where": "/tmp/x"}),
    (np.arange(3), [0, 1, 2]),
    (np.float64(0.5), 0.5),
    (date(2026, 1, 2), "2026-01-02"),
    (Loud(), "<Loud>"),
    (int, "<class 'int'>"),
    ((1, {2}), [1, [2]]),
    (b"ab", "ab"),
    ({1: "x", (2, 3): None}, {"1": "x", "[2,3]": None}),
    ({"!": 1}, {"!": 1}),
    (math.inf, None),
    ("a\ud800b", "a\ufffdb"),
    (Call("f"), {"name": "f", "arguments": {}, "id": "", "raw": "", "problem": "", "repairs": []}),
)


@pytest.mark.parametrize(("value", "shown"), OTHERS, ids=lambda value: type(value).__name__)
def test_readers_that_know_no_tags_get_plain_data(value: Any, shown: Any) -> None:
    assert json.loads(line_of(plain(value))) == shown


def test_lines_hold_half_surrogates_and_readable_letters() -> None:
    assert line_of(encode("é")) == '"é"'.encode()
    assert line_of(encode("\ud800")) == b'"\\ud800"'
    assert text_of({"b": 1, "a": "é"}) == '{"a":1,"b":1}'.replace('"a":1', '"a":"\\u00e9"')
