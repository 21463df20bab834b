"""ToolEval: the table of passes, votes, wins, the older score, and what is asked of a judge."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.rewards.judges import judged

from ferrule.core.flows import Flow
from ferrule.rewards.tooleval import (
    Answered,
    Passed,
    Solvable,
    Votes,
    judged_pass,
    judged_win,
    legacy_score,
    pass_of,
    pass_rate,
    read_label,
    win_of,
)


@pytest.mark.parametrize(
    ("answer", "task", "passed"),
    [
        ("solved", None, "passed"),
        ("unsolved", "solvable", "failed"),
        ("unsolved", "unsure", "unsure"),
        ("unsure", "solvable", "unsure"),
        ("unsure", "unsure", "unsure"),
        ("unsolved", "unsolvable", "passed"),
        ("unsure", "unsolvable", "passed"),
        (None, "unsolvable", "failed"),  # what could not be read never passes
        ("unsolved", None, "failed"),
    ],
)
def test_the_table_of_passes(answer: Answered | None, task: Solvable | None, passed: Passed) -> None:
    assert pass_of(answer, task) == passed


def test_unsolvable_tasks_may_be_made_to_fail() -> None:
    assert pass_of("unsolved", "unsolvable", unsolvable_passes=False) == "failed"


def test_votes_of_three_items() -> None:
    """(2, 2) passes as a tie, (1, 3) does not, (4, 0) does: 2 of 3."""
    assert pass_rate([Votes(2, 2), Votes(1, 3), Votes(4, 0)]) == pytest.approx(0.6667, abs=1e-4)
    assert not Votes(0, 0).passed
    assert math.isnan(pass_rate([]))


def test_who_wins_without_a_judge() -> None:
    assert (win_of("passed", "failed"), win_of("failed", "passed")) == (1.0, 0.0)
    assert win_of("passed", "passed") is win_of("failed", "failed") is win_of("unsure", "passed") is None


def test_the_older_score() -> None:
    """10 * 3 + 5 * 2 - 5 ln 4 = 40 - 6.931472."""
    assert legacy_score(3, 2, 4) == pytest.approx(33.0685, abs=1e-4)
    assert legacy_score(3, 2, 0) == -100_000


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Solved.", "solved"),
        ("It is UNSOLVED", "unsolved"),
        ("solved or unsolved", None),
        ("", None),
        ("It is not solved.", None),
        ("It isn't solved.", None),
    ],
)
def test_one_label_alone_is_read(text: str, label: str | None) -> None:
    assert read_label(text, ("solved", "unsolved", "unsure")) == label


def replied(flow: Flow[Any], *replies: str) -> tuple[Any, list[str]]:
    """Drive a judge's flow with a judge that replies so in turn, and is asked no more and no less often."""
    said = iter(replies)
    result, questions = judged(flow, lambda text: next(said))
    assert len(questions) == len(replies)
    return result, questions


def test_a_judge_is_asked_what_is_still_open() -> None:
    votes, questions = replied(judged_pass("Q", "A", "PATH", votes=1), "unsure", "unsolved", "solvable")
    assert votes == Votes(0, 1)
    assert ["PATH" in text for text in questions] == [False, True, False]
    assert replied(judged_pass("Q", "A", votes=2), "solved", "solved")[0] == Votes(2, 0)


def test_an_empty_answer_is_unsolved_and_none_fails_at_once() -> None:
    assert replied(judged_pass("Q", " ", votes=1), "unsolvable")[0] == Votes(1, 0)
    assert replied(judged_pass("Q", None, votes=4)) == (Votes(0, 4), [])


def test_what_cannot_be_read_fails() -> None:
    assert replied(judged_pass("Q", "A", votes=2), "Give it a pass!", "solved")[0] == Votes(1, 1)


def test_unsure_is_a_coin_unless_strict() -> None:
    always = ("unsure", "unsure") * 8
    lucky, _ = replied(judged_pass("Q", "A", votes=8), *always)
    assert 0 < lucky.passes < 8
    assert replied(judged_pass("Q", "A", votes=8, unsure=0.0), *always)[0] == Votes(0, 8)


def test_answers_that_both_pass_are_compared_in_both_orders() -> None:
    first = '{"better": "1"}'
    assert replied(judged_win("Q", "a", "b", passed=("passed", "passed")), first, first)[0] == 0.5
    assert replied(judged_win("Q", "a", "b", passed=("passed", "passed"), reference=True), first)[0] == 1.0
    assert replied(judged_win("Q", "a", "b", passed=("passed", "passed")), first, "Either.")[0] is None
    assert replied(judged_win("Q", "a", "b", passed=("failed", "passed"))) == (0.0, [])
    assert replied(judged_win("Q", "a", "a", passed=("passed", "passed"))) == (0.5, [])


def test_no_votes_are_refused() -> None:
    with pytest.raises(ValueError, match="votes is 0"):
        next(judged_pass("Q", "A", votes=0))
