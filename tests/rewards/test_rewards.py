"""Outcome, format, efficiency and their combination on hand-made trajectories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.contracts.checks import check_reward, example_trajectories

from ferrule.core.records import Call, Observation, Score, Task, Trajectory
from ferrule.rewards.combine import weighted
from ferrule.rewards.efficiency import call_cost, calls_per_success, overlong, productivity
from ferrule.rewards.format import call_penalty, executability, failed_calls, format_reward, well_formed_share
from ferrule.rewards.outcome import holds, is_right, outcome

TASK = Task("t", "2 + 2?", answer="4", meta={"verifier": "numeric"})
RIGHT, TROUBLE, TALK, EMPTY = example_trajectories(TASK)


def values(scores: Sequence[Score]) -> list[float]:
    return [score.value for score in scores]


def test_outcome_by_the_verifier_of_the_task() -> None:
    assert values(outcome(TASK, [RIGHT, TROUBLE, TALK, EMPTY])) == [1, 0, 1, 0]
    assert values(outcome(replace(TASK, meta={}), [RIGHT, TALK])) == [1, 0]
    assert outcome(TASK, [RIGHT])[0].parts == {"outcome": 1.0}


def test_outcome_needs_the_wanted_state_as_well() -> None:
    task = replace(TASK, meta={"verifier": "numeric", "state": {"cart": {"apples": 2}}})
    held = replace(RIGHT, final={"cart": {"apples": 2, "pears": 1}, "open": True})
    missed = replace(RIGHT, final={"cart": {"apples": 3}})
    assert values(outcome(task, [held, missed, RIGHT])) == [1, 0, 0]


def test_a_task_without_answer_is_judged_by_state_alone() -> None:
    task = Task("s", "put two apples into the cart", meta={"state": {"apples": 2}})
    assert values(outcome(task, [replace(EMPTY, final={"apples": 2}), EMPTY])) == [1, 0]
    with pytest.raises(ValueError, match="neither an answer nor"):
        outcome(Task("n", "?"), [EMPTY])


def test_right_is_what_the_outcome_says_and_else_the_value() -> None:
    """A reward on another scale keeps its part ``outcome``; exactly one half is not right."""
    scores = [Score(-3.0, parts={"outcome": 1.0}), Score(9.0, parts={"outcome": 0.0}), Score(0.6), Score(0.5)]
    assert [is_right(score) for score in scores] == [True, False, True, False]


def test_holds() -> None:
    assert holds({"a": [1, {"b": 2, "c": 3}]}, {"a": [1, {"b": 2}]})
    assert not holds({"a": [1]}, {"a": [1, 2]})
    assert not holds({}, {"a": None})
    assert holds({"a": None}, {"a": None})


def test_format_counts_trouble_per_call() -> None:
    """TROUBLE makes three calls: malformed, unknown tool, and one that timed out but ran."""
    assert well_formed_share(TROUBLE) == pytest.approx(1 / 3)
    assert call_penalty(TROUBLE) == 2.0
    assert values(format_reward(TASK, [RIGHT, TROUBLE, TALK, EMPTY])) == pytest.approx([1, 1 / 3, 1, 0])
    assert values(format_reward(TASK, [EMPTY], need_answer=False)) == [1]
    assert values(format_reward(TASK, [TROUBLE], penalties={"timeout": 0.3})) == pytest.approx([0.9])
    with pytest.raises(ValueError, match="did you mean 'malformed'"):
        format_reward(TASK, [RIGHT], penalties={"malformd": 1.0})


def test_calls_that_came_out_well_and_calls_that_failed() -> None:
    """Of three calls one ran out of time, and two never ran; a mixed episode has a share of one half."""
    (turn,) = (turn for turn in RIGHT.turns if turn.reply.calls)
    mixed = replace(
        RIGHT,
        turns=(
            replace(
                turn,
                reply=replace(turn.reply, calls=(Call("f"), Call("f"))),
                observations=(Observation("1"), Observation("no", "error")),
            ),
        ),
    )
    group = [RIGHT, TROUBLE, TALK, mixed]
    assert values(executability(TASK, group)) == [1, 0, 1, 0.5]
    assert values(executability(TASK, group, idle=0.0, indicator=True)) == [1, 0, 0, 0]
    assert list(map(failed_calls, group)) == [0, 1, 0, 1]
    check_reward(executability)


def test_calls_are_counted_when_they_ran() -> None:
    """RIGHT ran two calls; of the three of TROUBLE only the one that timed out ran."""
    assert [call_cost(t) for t in (RIGHT, TROUBLE, TALK, EMPTY)] == [2, 1, 0, 0]

    def price(call: Call, observation: Observation) -> float:
        return 0.5 if observation.status == "ok" else 0.0

    assert call_cost(RIGHT, price) == 1.0


def test_productivity() -> None:
    """Three right answers over six calls."""
    assert productivity([1, 0, 1, 1], [1, 3, 0, 2]) == 0.5
    assert productivity([1], [0]) == math.inf
    assert productivity([0], [0]) == 0.0
    assert calls_per_success([1, 0, 1, 1], [1, 3, 0, 2]) == 2.0
    assert calls_per_success([0], [5]) == math.inf


def test_overlong_falls_over_the_buffer() -> None:
    """TALK holds 40 sampled tokens: limit 50 with buffer 20 starts at 30, so it is half way down."""
    assert values(overlong(TASK, [TALK, RIGHT], longest=50, buffer=20)) == [-0.5, 0.0]
    assert values(overlong(TASK, [TALK], longest=30, buffer=20)) == [-1.0]
    with pytest.raises(ValueError, match="buffer"):
        overlong(TASK, [TALK], longest=10, buffer=20)


def test_weighted_names_its_parts() -> None:
    reward = weighted({"outcome": (outcome, 1.0), "format": (format_reward, 0.3)})
    scores = reward(TASK, [RIGHT, TROUBLE])
    assert values(scores) == pytest.approx([1.3, 0.1])
    assert scores[1].parts == pytest.approx({"outcome": 0.0, "format": 1 / 3})
    check_reward(reward)


def test_weighted_adds_turn_scores_of_different_lengths() -> None:
    def early(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        return [Score(0.0, turns=(1.0,)) for _ in trajectories]

    def late(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        return [Score(0.0, turns=(1.0, 4.0)) for _ in trajectories]

    assert weighted({"a": (early, 2.0), "b": (late, 0.5)})(TASK, [RIGHT])[0].turns == (2.5, 2.0)


def test_weighted_refuses_what_would_do_nothing() -> None:
    with pytest.raises(ValueError, match="'format' is 0"):
        weighted({"outcome": (outcome, 1.0), "format": (format_reward, 0.0)})
    with pytest.raises(ValueError, match="at least one"):
        weighted({})
    with pytest.raises(ValueError, match="'short' gave 0 scores for 1"):
        weighted({"short": (lambda task, trajectories: [], 1.0)})(TASK, [RIGHT])


def test_overlong_without_floor_scaled_and_counted_otherwise() -> None:
    """(50 - 20 - 70) / 20 = -2, times .5; a count of everything charges what the model did not write."""
    assert values(overlong(TASK, [TALK], longest=50, buffer=20, factor=0.5, length=lambda t: 70.0)) == [-1.0]
    assert values(overlong(TASK, [TALK], longest=50, buffer=20, floor=-9.0, length=lambda t: 90.0)) == [-3.0]
