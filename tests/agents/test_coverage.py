"""Few things that cover much: worth by rarity, the budget, and at most so many of one field."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping

import pytest

from ferrule.agents.coverage import adjusted, covering

COVERS: Mapping[str, Mapping[Hashable, float]] = {
    "x = city": {"v1": 3.0, "v2": 1.0},
    "y = price": {"v1": 3.0},
    "mark = bar": {"v2": 1.0, "v3": 2.0},
}


def test_worth_by_rarity() -> None:
    """ln(3/2) = 0.4055 for v1 and v2, ln 3 = 1.0986 for v3: 4 x 0.4055, 3 x 0.4055, 0.4055 + 2 x 1.0986."""
    assert adjusted(COVERS) == pytest.approx({"x = city": 1.6219, "y = price": 1.2164, "mark = bar": 2.6027}, abs=1e-4)


@pytest.mark.parametrize(
    ("most", "budget", "chosen"),
    [
        # per view: 1.3014, 1.2164 and 0.8109
        (2, 100, ["mark = bar", "y = price"]),
        (9, 100, ["mark = bar", "y = price", "x = city"]),
        (2, 2, ["mark = bar"]),
        (9, 3, ["mark = bar", "y = price"]),
        (9, 1, ["y = price"]),
        (0, 100, []),
    ],
)
def test_the_rule(most: int, budget: int, chosen: list[str]) -> None:
    assert covering(COVERS, most=most, budget=budget) == chosen


def test_one_field_is_not_everything() -> None:
    """Of four alike only two are taken; what covers nothing is never, and what does not fit is passed over."""
    covers: dict[str, dict[Hashable, float]] = {f"{slot} city": {slot: 1.0} for slot in "abcd"}
    covers |= {"wide": dict.fromkeys(range(5), 0.5), "empty": {}}
    assert covering(covers, field=lambda name: name[2:], budget=6) == ["a city", "b city"]
    assert covering(covers, field=lambda name: name[2:], budget=7) == ["a city", "b city", "wide"]


def test_a_single_one_has_no_rarity() -> None:
    """ln 1 = 0; the order given decides among equals."""
    assert adjusted({"only": {"v": 3.0}}) == {"only": 3.0 * math.log(1)}
    assert covering({"b": {"v": 1.0}, "a": {"v": 1.0}}) == ["b", "a"]
