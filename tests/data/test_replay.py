"""Rounds that keep a share of earlier items."""

from __future__ import annotations

import pytest

from ferrule.data.replay import with_replay

BATCHES = [list(range(0, 20)), list(range(100, 125)), list(range(200, 210))]


def test_a_round_learns_its_batch_and_a_share_of_earlier_ones() -> None:
    """Of 20 items 2, of 25 items 2 (2.5 is rounded to the even number)."""
    items = with_replay(BATCHES, 2)
    assert items[:10] == BATCHES[2]
    assert [sum(item < 100 for item in items), sum(100 <= item < 200 for item in items)] == [2, 2]
    assert with_replay(BATCHES, 1)[25:] == items[10:12]  # the same ones in every round
    assert with_replay(BATCHES, 0) == BATCHES[0]
    assert with_replay(BATCHES, 2, share=0.0) == BATCHES[2]


def test_general_items_are_added() -> None:
    general = list(range(1000, 1050))
    rounds = [with_replay(BATCHES, place, share=0, general=general, count=5)[len(BATCHES[place]) :] for place in (0, 1)]
    assert [len(set(items) & set(general)) for items in rounds] == [5, 5]
    assert rounds[0] != rounds[1]
    assert len(with_replay(BATCHES, 0, general=general)) == 70


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"share is 1\.5"):
        with_replay(BATCHES, 0, share=1.5)
    with pytest.raises(ValueError, match="no round 3; the last one is 2"):
        with_replay(BATCHES, 3)
