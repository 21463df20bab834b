"""Rankings: discounted gain and recall against all that is relevant."""

from __future__ import annotations

import math

import pytest

from ferrule.evaluate.ranking import hit, ndcg, rank_at_1, recall

RANKED = ["w", "x", "y", "z"]


def test_gain_over_the_best_possible() -> None:
    """Relevant at places 2 and 3: (1/log2 3 + 1/log2 4) / (1 + 1/log2 3) = 1.130930 / 1.630930."""
    assert ndcg(RANKED, {"x", "y"}, 3) == pytest.approx(0.693426, abs=1e-6)
    assert ndcg(RANKED, {"w"}, 1) == 1.0
    assert ndcg(RANKED, {"z"}, 3) == 0.0


def test_what_was_missed_lowers_the_gain() -> None:
    """Of w and v only w is ranked: 1 / (1 + 1/log2 3); the published code calls that perfect."""
    assert ndcg(RANKED, {"w", "v"}, 3) == pytest.approx(0.613147, abs=1e-6)
    assert ndcg(RANKED, {"w", "v"}, 3, reference=True) == 1.0
    assert ndcg(RANKED, {"v"}, 3, reference=True) == 0.0


def test_an_entry_that_comes_twice_counts_once() -> None:
    assert ndcg(["w", "w"], {"w", "x"}, 2) == pytest.approx(0.613147, abs=1e-6)
    assert recall(["w", "w"], {"w", "x"}, 2) == 0.5


def test_recall_counts_all_that_is_relevant() -> None:
    assert recall(RANKED, {"x", "v"}, 2) == 0.5
    assert recall(RANKED, {"x", "y"}, 1) == 0.0


def test_nothing_to_rank_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is relevant"):
        ndcg(RANKED, (), 1)
    with pytest.raises(ValueError, match="k is 0"):
        recall(RANKED, {"x"}, 0)


def test_the_best_scored_candidate_counts() -> None:
    """Right in the first task, wrong in the second, and in the third the first of equals is right."""
    right = [[False, True], [True, False], [True, False]]
    assert rank_at_1([[0.1, 0.2], [0.3, 0.4], [0.5, 0.5]], right) == pytest.approx(2 / 3)
    assert math.isnan(rank_at_1([], []))
    with pytest.raises(ValueError, match="task 1 has 1 scores for 2 candidates"):
        rank_at_1([[1.0, 0.0], [1.0]], [[True, False], [True, False]])
    with pytest.raises(ValueError, match="task 0 has a score that is nan"):
        rank_at_1([[math.nan, 1.0]], [[True, False]])


def test_a_hit_is_any_relevant_entry_near_the_top() -> None:
    """x stands second and y third."""
    assert [hit(RANKED, {"x", "y"}, k) for k in (1, 2, 4)] == [0.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="nothing is relevant"):
        hit(RANKED, set(), 3)
