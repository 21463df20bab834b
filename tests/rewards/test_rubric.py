"""Rubrics: the points of what is met, what nobody knows, and what a judge is asked."""

from __future__ import annotations

import pytest
from tests.rewards.judges import judged

from ferrule.core.flows import Flow
from ferrule.core.records import Message, Reply
from ferrule.rewards.rubric import Criterion, RubricScore, judged_rubric, rubric_value

RUBRIC = (Criterion("It names the price.", 3), Criterion("It is one sentence.", 1), Criterion("It guesses.", -2))


def said_of(flow: Flow[RubricScore], *replies: str) -> tuple[RubricScore, list[str]]:
    """Return the score by a judge that gives these replies in turn, and what it was asked."""
    waiting = iter(replies)
    return judged(flow, lambda question: next(waiting))


@pytest.mark.parametrize(
    ("met", "value"),
    [
        ((True, True, False), 1.0),
        ((True, False, False), 0.75),  # 3 of 4
        ((True, True, True), 0.5),  # 3 + 1 - 2 of 4
        ((False, True, True), 0.0),  # 1 - 2 is below 0
        ((None, True, False), 0.25),  # unknown is not met
        ((True, True, None), 0.5),  # of what should not be so, unknown is so
        ((None, None, None), 0.0),
    ],
)
def test_points_that_are_met_over_all_that_could_be(met: tuple[bool | None, ...], value: float) -> None:
    assert rubric_value(RUBRIC, met) == value


def test_every_criterion_is_asked_by_itself_in_one_batch() -> None:
    score, questions = said_of(judged_rubric("How much?", "3 pounds", RUBRIC), "Yes.", "no", "NO, it does not")
    assert score == RubricScore(0.75, (True, False, False))
    assert len(questions) == 3
    for question, criterion in zip(questions, RUBRIC, strict=True):
        assert [one.text in question for one in RUBRIC] == [one is criterion for one in RUBRIC]
        assert "How much?" in question
        assert "3 pounds" in question


def test_what_cannot_be_read_is_unknown_and_gains_nothing() -> None:
    score, _ = said_of(judged_rubric("Q", "A", RUBRIC), "yes or no", "", "maybe")
    assert score == RubricScore(0.0, (None, None, None))


def test_a_reply_that_was_cut_off_or_failed_is_unknown() -> None:
    flow = judged_rubric("Q", "A", RUBRIC)
    next(flow)
    finishes = ("stop", "length", "error")
    with pytest.raises(StopIteration) as ended:
        flow.send([[Reply(Message("assistant", "yes"), finish=finish)] for finish in finishes])
    assert ended.value.value == RubricScore(0.25, (True, None, None))  # 3 - 2 of 4


@pytest.mark.parametrize("answer", [None, "", " \n"])
def test_no_answer_is_not_asked_about(answer: str | None) -> None:
    assert said_of(judged_rubric("Q", answer, RUBRIC)) == (RubricScore(0.0, (None,) * 3), [])


def test_settings_that_could_not_count_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Criterion\.text is empty"):
        Criterion(" ")
    for points in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"Criterion\.points is"):
            Criterion("It is short.", points)
    for rubric in ((), (Criterion("It guesses.", -1),)):
        with pytest.raises(ValueError, match="no points above 0"):
            next(judged_rubric("Q", "A", rubric))
    with pytest.raises(ValueError, match="zip"):
        rubric_value(RUBRIC, (True,))
