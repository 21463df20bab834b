"""Tags in texts: counts, balance, the first element, and the calls in it."""

from __future__ import annotations

import pytest

from ferrule.chat.tags import balanced, call_in, calls_in, element, tag_counts
from ferrule.core.records import Call


@pytest.mark.parametrize(
    ("text", "counts"),
    [("", (0, 0)), ("<a>x</a><a>", (2, 1)), ("<ab>x</ab>", (0, 0)), ("</a>", (0, 1)), ("< a></ a>", (0, 0))],
)
def test_counts(text: str, counts: tuple[int, int]) -> None:
    assert tag_counts(text, "a") == counts


def test_balance_counts_and_does_not_look_at_order() -> None:
    assert balanced("<a>x</a></b><b>", "a", "b")
    assert not balanced("<a>x</a><b>", "a", "b")
    assert balanced("<b>", "a")
    assert balanced("<b>")


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("<a>one\ntwo</a><a>three</a>", "one\ntwo"),
        ("<a></a>", ""),
        ("<a>open", None),
        ("</a><a>x</a>", "x"),
        ("<a><a>x</a>", "<a>x"),
        ("<b>x</b>", None),
    ],
)
def test_first_element(text: str, body: str | None) -> None:
    assert element(text, "a") == body


def test_tags_are_no_patterns() -> None:
    assert element("<aaa>x</aaa><a+>y</a+>", "a+") == "y"


def test_what_is_read_as_calls() -> None:
    assert calls_in("none") is None
    row = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
    assert calls_in(row) == [Call("f", {"x": 1}, raw='{"name": "f", "arguments": {"x": 1}}')]
    for line in ("[]", '{"name": "f"}', '{"name": 1, "parameters": {}}', '{"name": "f", "parameters": []}', "[" * 9999):
        assert calls_in(f"<tool_call>\n{line}\n</tool_call>") is None
    assert calls_in("<tool_call>\n</tool_call>") == []


def test_call_of_a_text() -> None:
    inside = 'Now: {"name": "AStar", "parameters": {"start": 1}} done'
    assert call_in(f"<tool_call>{inside}</tool_call>") == Call("AStar", {"start": 1}, raw=inside)
    assert call_in(f"<tool_call>use {{img_1}}: {inside}</tool_call>") is not None
    bad = [
        "",
        "{",
        '{"name": "", "parameters": {}}',
        "{" * 5000,
        '{"name": "AStar", "arguments": {}}',
        '{"parameters": {}}',
        '{"name": "f", "parameters": 1}',
        "[1]",
    ]
    for text in bad:
        assert call_in(f"<tool_call>{text}</tool_call>") is None
    assert call_in("no call") is None
