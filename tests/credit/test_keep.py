"""Filters of groups: spread of the reward or of a part, survivors, and both together."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ferrule.core.records import Score
from ferrule.credit.keep import all_of, spread, survivors


def scores(values: Sequence[float], *, dropped: Sequence[int] = ()) -> list[Score]:
    return [Score(v, parts={"acc": float(v > 0.5)}, drop=i in dropped) for i, v in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "kept"), [([1, 1, 1, 1], False), ([0, 1, 0, 0], True), ([0, 0], False), ([1], True), ([], False)]
)
def test_spread_of_the_reward(values: Sequence[float], kept: bool) -> None:
    assert spread()([], scores(values)) is kept


def test_spread_of_a_part_is_its_own() -> None:
    """Rewards that differ leave a part constant, and a part may be missing."""
    close = scores([0.1, 0.2, 0.3])
    assert spread()([], close)
    assert not spread("acc")([], close)
    with pytest.raises(ValueError, match="did you mean 'acc'"):
        spread("ac")([], close)


def test_spread_has_a_least_and_a_say_on_groups_of_one() -> None:
    assert not spread(singletons=False)([], scores([1.0]))
    assert spread(least=0.4)([], scores([0.0, 1.0]))  # the spread of (0, 1) is 0.5
    assert not spread(least=0.5)([], scores([0.0, 1.0]))


def test_rounding_is_no_spread() -> None:
    assert not spread()([], scores([0.1 + 0.2, 0.3]))


def test_dropped_trajectories_do_not_count() -> None:
    assert not spread()([], scores([0.0, 1.0, 1.0], dropped=[0]))
    assert spread()([], scores([0.0, 1.0], dropped=[0]))  # one is left
    assert not spread()([], scores([0.0, 1.0], dropped=[0, 1]))


def test_survivors_round_up() -> None:
    """Half of three is two."""
    assert survivors()([], scores([0, 1, 1], dropped=[0]))
    assert not survivors()([], scores([0, 1, 1], dropped=[0, 1]))
    assert survivors(1.0)([], scores([0, 1]))
    assert survivors()([], [])


def test_all_of_asks_every_filter() -> None:
    both = all_of(spread(), survivors(0.75))
    assert both([], scores([0, 1, 1, 1], dropped=[1]))
    assert not both([], scores([0, 1, 1, 1], dropped=[1, 2]))
    assert not both([], scores([1, 1, 1, 1]))
    assert all_of()([], scores([1, 1]))
