"""Matching made calls with gold calls: similarities, assignments and transport by worked numbers."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from ferrule.core.arrays import FloatArray
from ferrule.core.records import Call
from ferrule.rewards.matching import (
    assign,
    call_key,
    call_similarity,
    equal_values,
    multiset_jaccard,
    readable,
    same_name,
    similarities,
    transport,
)

GOLD = Call("search", {"q": "a", "k": 3})
PREDS = [Call("get", {"x": 1}), Call("get", {"x": 2}), Call("sum", {"a": 1, "b": 2})]
GOLDS = [Call("get", {"x": 2}), Call("sum", {"a": 1, "b": 3})]


def test_multiset_jaccard() -> None:
    """min counts a1 b0 over max counts a2 b1 is 1/3; nothing equals nothing; of a mapping the keys count."""
    assert multiset_jaccard("aa", "ab") == pytest.approx(1 / 3)
    assert multiset_jaccard("ab", "ba") == 1.0
    assert multiset_jaccard("", "") == 1.0
    assert multiset_jaccard("a", "") == 0.0
    assert multiset_jaccard({"a": 9, "b": 0}, {"a": 1}) == 0.5


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (Call("search", {"q": "a", "k": 3}), 1.0),  # (1 + 1 + 2) / 4
        (Call("search", {"q": "b", "k": 3}), 0.75),  # (1 + 1 + 1) / 4
        (Call("search", {"q": "a"}), 0.625),  # (1 + 1/2 + 1) / 4
        (Call("search", {"q": "a", "k": 3, "z": 0}), 0.916667),  # (1 + 2/3 + 2) / 4
        (Call("find", {"q": "a", "k": 3}), 0.0),
        (Call("search", {}), 0.25),
    ],
)
def test_similarity_of_calls(made: Call, expected: float) -> None:
    assert call_similarity(made, GOLD) == pytest.approx(expected, abs=1e-6)


def test_names_fold_their_case_on_request() -> None:
    assert call_similarity(Call("NOW"), Call("now")) == 1.0
    assert call_similarity(Call("NOW"), Call("now"), fold_case=False) == 0.0
    assert same_name(Call("a"), Call("a"))
    assert not same_name(Call("A"), Call("a"))


@pytest.mark.parametrize(
    ("one", "other", "strict", "loose"),
    [
        (1, 1, 1, 1),
        ("1", 1, 0, 0),
        (1, True, 0, 1),
        (1, 1.0, 1, 1),
        ([1], [True], 0, 1),
        ({"a": [0]}, {"a": [False]}, 0, 1),
        ([1, [True]], [1, [True]], 1, 1),
        (None, False, 0, 0),
    ],
)
def test_values_are_compared_as_json_does(one: Any, other: Any, strict: int, loose: int) -> None:
    assert equal_values(Call("f", {"x": one}), Call("f", {"x": other})) == strict
    assert equal_values(Call("f", {"x": one}), Call("f", {"x": other}), strict=False) == loose


def test_a_parameter_that_is_missing_has_no_value() -> None:
    """None that is given is not None that is absent."""
    assert equal_values(Call("f", {}), Call("f", {"x": None})) == 0
    assert equal_values(Call("f", {"x": None}), Call("f", {"x": None})) == 1


def test_only_readable_calls_can_be_compared() -> None:
    assert readable(GOLD)
    assert not readable(Call("search", problem="no JSON"))
    assert not readable(Call("search", ["a"]))  # type: ignore[arg-type]


def test_similarity_matrix() -> None:
    """get(1) and get(2) against get(2): (1 + 1 + v) / 3 with v = 0 and 1; sum: (1 + 1 + 1) / 4."""
    expected = np.asarray([[2 / 3, 0], [1, 0], [0, 0.75]])
    assert similarities(PREDS, GOLDS) == pytest.approx(expected)
    assert similarities([], GOLDS).shape == (0, 2)
    assert similarities(PREDS, []).shape == (3, 0)


def test_greedy_is_not_exact() -> None:
    """Greedy takes .70 at (0, 0) first and is left with .20; the best sum is .70 + .68 crosswise."""
    score_PG = np.asarray([[0.7, 0.7], [0.68, 0.2]])
    assert assign(score_PG, "greedy") == [(0, 0), (1, 1)]
    assert assign(score_PG, "exact") == [(1, 0), (0, 1)]
    assert assign(score_PG, "in_order") == [(0, 0), (1, 1)]
    with pytest.raises(ValueError, match="did you mean 'exact'"):
        assign(score_PG, "exakt")  # type: ignore[arg-type]


def test_in_order_serves_the_first_gold_first() -> None:
    """The first column takes row 0 although the second needs it more; greedy serves the higher pair."""
    score_PG = np.asarray([[0.6, 0.9], [0.5, 0.0]])
    assert assign(score_PG, "in_order") == [(0, 0)]
    assert assign(score_PG, "greedy") == [(1, 0), (0, 1)]


@pytest.mark.parametrize("mode", ["greedy", "exact", "in_order"])
def test_nothing_is_matched_without_a_score(mode: Any) -> None:
    for shape in ((0, 0), (0, 2), (3, 0), (2, 3)):
        assert assign(np.zeros(shape), mode) == []


def test_ties_go_to_the_first() -> None:
    for mode in ("greedy", "in_order"):
        assert assign(np.ones((3, 2)), mode) == [(0, 0), (1, 1)]


def test_exact_has_the_largest_sum_of_all() -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        score_PG = rng.random((4, 3)) * (rng.random((4, 3)) < 0.7)
        best = max(sum(score_PG[p, g] for g, p in enumerate(rows)) for rows in permutations(range(4), 3))
        pairs = assign(score_PG, "exact")
        assert sum(score_PG[p, g] for p, g in pairs) == pytest.approx(best)
        assert len({p for p, _ in pairs}) == len({g for _, g in pairs}) == len(pairs)


def test_transport_of_the_worked_calls() -> None:
    """Rows and columns of the plan add up to 1/3 and 1/2; the credit of a call is its row of plan times score."""
    score_PG = similarities(PREDS, GOLDS)
    plan_PG = transport(score_PG)
    assert plan_PG.sum(1) == pytest.approx([1 / 3] * 3, abs=1e-6)
    assert plan_PG.sum(0) == pytest.approx([1 / 2] * 2, abs=1e-6)
    assert (plan_PG * score_PG).sum(1) == pytest.approx([0.11791, 0.323135, 0.25], abs=1e-5)


def test_transport_at_its_edges() -> None:
    assert transport(np.zeros((0, 3))).shape == (0, 3)
    assert transport(np.zeros((2, 2))) == pytest.approx(np.full((2, 2), 0.25))
    sharp: FloatArray = transport(np.eye(3), reg=0.001)
    assert np.isfinite(sharp).all()
    assert sharp == pytest.approx(np.eye(3) / 3, abs=1e-6)
    with pytest.raises(ValueError, match="above 0"):
        transport(np.ones((1, 1)), reg=0.0)


def test_equal_calls_have_one_key() -> None:
    """The order of arguments and the id of a call do not matter; names and values do."""
    assert call_key(Call("f", {"a": 1, "b": [2]})) == call_key(Call("f", {"b": [2], "a": 1}, id="x"))
    keys = {call_key(call) for call in (Call("f"), Call("g"), Call("f", {"a": 1}), Call("f", {"a": "1"}))}
    assert len(keys) == 4
