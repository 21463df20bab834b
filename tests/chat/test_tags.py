"""Tags in texts: counts, balance, and the first element."""

from __future__ import annotations

import pytest

from ferrule.chat.tags import balanced, element, tag_counts


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
