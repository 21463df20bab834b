"""Candidates that are learned from offline: accepted ones, and pairs."""

from __future__ import annotations

from ferrule.data.pairs import accepted, preference_pairs


def test_pairs_and_accepted_candidates() -> None:
    assert preference_pairs([0.75, 0, 1, 0.75], margin=0.2) == [(0, 1), (2, 0), (2, 1), (2, 3), (3, 1)]
    assert preference_pairs([0.5, 0.45]) == []
    assert accepted([0.2, 0.5, 0.1, 0.3], 0.25) == [1, 3]


def test_equal_rewards_are_no_pair_even_without_a_margin() -> None:
    assert preference_pairs([0.5, 0.5], margin=0.0) == []
    assert preference_pairs([0.5, 0.4], margin=0.0) == [(0, 1)]
