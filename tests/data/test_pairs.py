"""Candidates that are learned from offline: accepted ones, and pairs."""

from __future__ import annotations

import numpy as np

from ferrule.data.pairs import accepted, ends_of_each, preference_pairs, verifier_pairs


def test_pairs_and_accepted_candidates() -> None:
    assert preference_pairs([0.75, 0, 1, 0.75], margin=0.2) == [(0, 1), (2, 0), (2, 1), (2, 3), (3, 1)]
    assert preference_pairs([0.5, 0.45]) == []
    assert accepted([0.2, 0.5, 0.1, 0.3], 0.25) == [1, 3]


def test_equal_rewards_are_no_pair_even_without_a_margin() -> None:
    assert preference_pairs([0.5, 0.5], margin=0.0) == []
    assert preference_pairs([0.5, 0.4], margin=0.0) == [(0, 1)]


def test_verifier_pairs() -> None:
    """Group 0: .9 with 0, .5 with .1; group 1 is all equal; group 2 has one row."""
    reward = np.array([0.1, 0.9, 0.0, 0.5, 1.0, 1.0, 0.3])
    pair, chosen, rows = verifier_pairs(reward, np.array([0, 0, 0, 0, 1, 1, 2]))
    assert rows.tolist() == [1, 2, 3, 0]
    assert pair.tolist() == [0, 0, 1, 1]
    assert chosen.tolist() == [1, 0, 1, 0]


def test_the_best_and_the_worst_of_those_that_are_alike() -> None:
    """Of the 9s places 0 and 3 lie furthest apart; the 8s are equal, and nothing is known of the last one."""
    rewards, keys = [0.2, 0.7, 0.5, 0.9, 0.7, 1.0], ["9", "8", "9", "9", "8", None]
    assert ends_of_each(rewards, keys) == [(3, 0)]
    assert ends_of_each(rewards, keys, margin=0.7) == []
    assert ends_of_each(rewards, ["all"] * 6) == [(5, 0)]
    assert ends_of_each([], []) == []
