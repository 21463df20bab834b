"""Judged comparisons: both orders, reading of choices, and the order of many."""

from __future__ import annotations

from typing import Any

import pytest
from tests.rewards.judges import judged

from ferrule.core.records import Finish, Message, Reply
from ferrule.rewards.pairwise import Choice, agreed, better_of, compared, read_choice, win_counts


@pytest.mark.parametrize(
    ("shown", "swapped", "score"),
    [("1", "2", 1.0), ("2", "1", 0.0), ("1", "1", 0.5), ("2", "2", 0.5), ("tie", "2", 0.5)],
)
def test_both_orders_must_agree(shown: Choice, swapped: Choice, score: float) -> None:
    assert agreed(shown, swapped) == score
    assert agreed(shown, swapped, unknown=0.1) == score


def test_a_reply_that_says_nothing_is_no_result() -> None:
    """Whatever the other reply says; only one that cannot be read may count as something."""
    assert agreed("unknown", "2") is agreed("1", "unknown") is agreed("failed", "2") is None
    assert agreed("unknown", "2", unknown=0.5) == 0.5
    assert agreed("failed", "unknown", unknown=0.5) is None


@pytest.mark.parametrize(
    ("text", "key", "choice"),
    [
        ('Well.\n```json\n{"better_step": 2}\n```', "better_step", "2"),
        ('{"better_step": "1"} or {"better_step": "2"}', "better_step", "1"),
        ("better_step: 2", "better_step", "2"),
        ("better_step = tie", "better_step", "tie"),
        ('{"better_action_plan": "1"}', "better_step", "unknown"),
        ('"better_step": "1"', "better_step", "unknown"),  # a key in quotes is JSON, which needs braces
        ('I choose {x} {"better_step":"1"}', "better_step", "unknown"),  # the first braces count
        ('{"better_step": "both"}', "better_step", "unknown"),
        ('{"better_action_plan": "TIE"}', "better_action_plan", "tie"),
        ('{"better_step": true}', "better_step", "unknown"),  # true equals 1 in Python
        ('{"better_step": [1]}', "better_step", "unknown"),
        ("", "better_step", "unknown"),
    ],
)
def test_choices_are_read(text: str, key: str, choice: Choice) -> None:
    assert read_choice(text, key) == choice


def test_a_choice_nested_too_deeply_is_unknown() -> None:
    assert read_choice('{"better": ' + "[" * 9999 + "}") == "unknown"


def by_order(*winning: str) -> Any:
    """A judge who picks candidate 1 where the two shown, as ``xy``, are listed, else candidate 2."""

    def judge(text: str) -> str:
        lines = text.splitlines()
        order = lines[lines.index("Candidate 1:") + 1] + lines[lines.index("Candidate 2:") + 1]
        return '{"better": "1"}' if order in winning else '{"better": "2"}'

    return judge


def test_wins_of_three_are_counted() -> None:
    """x beats y and z beats y in both orders; of x and z whoever stands in front wins: 1.5, 0, 1.5."""
    judge = by_order("xy", "zy", "xz", "zx")
    counts, requests = judged(win_counts(["x", "y", "z"], better_of()), judge)
    assert counts == [1.5, 0.0, 1.5]
    assert len(requests) == 6


def test_one_order_lets_the_place_decide() -> None:
    both, requests = judged(compared([("x", "z")], better_of("Pick.")), by_order("xz", "zx"))
    once, fewer = judged(compared([("x", "z")], better_of("Pick."), reference=True), by_order("xz", "zx"))
    assert (both, once) == ([0.5], [1.0])
    assert (len(requests), len(fewer)) == (2, 1)


def test_nothing_to_compare_asks_nothing() -> None:
    assert judged(compared([], better_of()), by_order())[1] == []
    assert judged(win_counts(["x"], better_of()), by_order())[0] == [0.0]


@pytest.mark.parametrize("finish", ["length", "error"])
def test_a_comparison_that_failed_has_no_result(finish: Finish) -> None:
    flow = compared([("x", "y")], better_of(), unknown=0.5)
    next(flow)
    good, cut = (Reply(Message("assistant", '{"better": "1"}'), finish=how) for how in ("stop", finish))
    with pytest.raises(StopIteration) as stop:
        flow.send(((good,), (cut,)))
    assert stop.value.value == [None]


@pytest.mark.parametrize("reference", [False, True])
def test_what_cannot_be_read_has_no_result_unless_it_is_given_one(reference: bool) -> None:
    said = [judged(compared([("x", "y")], better_of(), unknown=u, reference=reference), lambda text: "Both!")[0]
            for u in (None, 0.5)]  # fmt: skip
    assert said == [[None], [0.5]]


def test_a_comparison_without_a_result_counts_for_neither() -> None:
    """Of x, y and z the judge can tell x from y alone."""
    counts, _ = judged(
        win_counts(["x", "y", "z"], better_of()), lambda text: by_order("xy")(text) if "z" not in text else "?"
    )
    assert counts == [1.0, 0.0, 0.0]
