"""What calls are worth beside reference calls and beside the tools on offer."""

from __future__ import annotations

from typing import Any

import pytest

from ferrule.core.records import Call
from ferrule.rewards.calls import call_rewards, call_score, correctness

PREDS = [Call("get", {"x": 1}), Call("get", {"x": 2}), Call("sum", {"a": 1, "b": 2})]
GOLDS = [Call("get", {"x": 2}), Call("sum", {"a": 1, "b": 3})]
REQUIRED = {"Point": ["image", "description"], "AStar": ["start", "goal", "obstacles"]}
FULL = Call("AStar", {"start": 1, "goal": 2, "obstacles": []})


def test_hard_and_soft_call_rewards() -> None:
    assert call_rewards(PREDS, GOLDS) == pytest.approx([0, 1, 0.75])
    soft = call_rewards(PREDS, GOLDS, mode="soft")
    assert soft == pytest.approx([0.11791, 0.323135, 0.25], abs=1e-5)
    assert max(soft) <= 1 / 3
    with pytest.raises(ValueError, match="did you mean 'soft'"):
        call_rewards(PREDS, GOLDS, mode="sofd")  # type: ignore[arg-type]


def test_calls_that_could_not_be_read_earn_nothing_and_take_nothing() -> None:
    gold = [Call("now")]
    broken = [Call("now", problem="no JSON"), Call("now", [2]), Call("now", None)]  # type: ignore[arg-type]
    assert call_rewards([*broken, Call("now")], gold) == [0, 0, 0, 1]
    assert call_rewards([*broken, Call("now")], gold, mode="soft") == pytest.approx([0, 0, 0, 1])
    assert call_rewards(broken, gold, mode="soft") == [0, 0, 0]


def test_greedy_and_exact_differ() -> None:
    """f(a=1,b=2,d=4) against f(a=1,b=2,c=3): (1 + 2/4 + 2) / 5 = .7; the rest likewise, and no assignment is both."""
    made = [Call("f", {"a": 1, "b": 2, "d": 4}), Call("f", {"b": 2, "c": 3, "x": 0, "y": 0})]
    golds = [Call("f", {"a": 1, "b": 2, "c": 3}), Call("f", {"a": 1, "d": 4, "e": 5})]
    scores = [[call_rewards([p], [g])[0] for g in golds] for p in made]
    assert scores == [pytest.approx([0.7, 0.7]), pytest.approx([0.68, 0.2])]
    assert call_rewards(made, golds, assignment="greedy") == pytest.approx([0.7, 0.2])
    assert call_rewards(made, golds) == pytest.approx([0.7, 0.68])


def test_doubled_calls() -> None:
    """One of two equal calls gets everything by hard matching; transport halves it between them."""
    double, gold = [GOLDS[0], GOLDS[0]], [GOLDS[0]]
    assert sorted(call_rewards(double, gold)) == [0, 1]
    assert call_rewards(double, gold, mode="soft") == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_nothing_to_match(mode: Any) -> None:
    assert call_rewards([], GOLDS, mode=mode) == []
    assert call_rewards(PREDS, [], mode=mode) == [0, 0, 0]
    assert call_rewards([], [], mode=mode) == []


def test_values_must_be_of_one_type() -> None:
    """Text is not a number, and 1 is not True unless asked for."""
    assert correctness([Call("f", {"x": "5"})], [Call("f", {"x": 5})]) == pytest.approx(2 / 3)
    assert correctness([Call("f", {"x": True})], [Call("f", {"x": 1})]) == pytest.approx(2 / 3)
    assert correctness([Call("f", {"x": True})], [Call("f", {"x": 1})], strict=False) == 1


def test_assignments_differ_where_names_repeat() -> None:
    """In order, f(a=1) takes the call that f(a=1, b=2) needs: 2 + .5 + 1 of 6 points, against 1.5 + 3."""
    golds = [Call("f", {"a": 1}), Call("f", {"a": 1, "b": 2})]
    made = [Call("f", {"a": 1, "b": 2}), Call("f", {"a": 1, "c": 0})]
    shares = {mode: correctness(made, golds, assignment=mode) for mode in ("in_order", "exact")}
    assert shares["in_order"] == pytest.approx((1 + 1.5 + 1 / 3 + 1) / 6)
    assert shares["exact"] == pytest.approx((1 + 1.5 + 3) / 6)


@pytest.mark.parametrize(
    ("call", "valid", "expected"),
    [
        (Call("AStar", {"start": 1}), 1.0, 7 / 3),
        (FULL, 1.0, 4.0),
        (FULL, 0.0, 3.0),
        (FULL, 0.5, 3.5),
        (Call("Nothing", {"start": 1}), 1.0, 1.0),
        (Call("Point", {"other": 1}), 1.0, 2.0),
        (Call("AStar", problem="no JSON"), 1.0, 0.0),
        (None, 1.0, 0.0),
    ],
)
def test_ladder(call: Call | None, valid: float, expected: float) -> None:
    assert call_score(call, REQUIRED, valid=lambda made: valid) == pytest.approx(expected)


def test_the_online_ladder_punishes_extra_parameters() -> None:
    """Two given, two required, one shared: 1/2 of the required, 1/3 of the union."""
    made = Call("Point", {"image": 1, "extra": 2})
    assert call_score(made, REQUIRED) == pytest.approx(2.5)
    assert call_score(made, REQUIRED, names="union") == pytest.approx(2 + 1 / 3)
    assert call_score(Call("f"), {"f": []}) == 4
    assert call_score(Call("f"), {"f": []}, names="union") == 4
    with pytest.raises(ValueError, match="did you mean 'union'"):
        call_score(made, REQUIRED, names="unions")  # type: ignore[arg-type]
