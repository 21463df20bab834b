from __future__ import annotations

import json
from typing import Any

import pytest

from ferrule.papers import discover, find
from ferrule.studies.paper import Claim, verdict


def claim(**changes: Any) -> Claim:
    base: dict[str, Any] = {
        "paper": "otc",
        "statement": "fewer calls",
        "measured": "calls per task",
        "arms": {"base": {"calls": [1.0, 2.0, 3.0]}},
        "effect": 0.5,
        "interval": (0.1, 0.9),
        "threshold": 0.0,
        "falsifier": "as many calls",
        "verdict": "held",
        "seeds": (0, 1, 2),
    }
    return Claim(**{**base, **changes})


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.1, 0.9), "held"),
        ((0.0, 0.9), "held"),
        ((-0.5, -0.1), "not held"),
        ((-0.1, 0.9), "undecided"),
        ((-0.5, 0.0), "undecided"),
    ],
)
def test_the_verdict_follows_from_the_interval(interval: tuple[float, float], expected: str) -> None:
    """Against a threshold of 0: held from low >= 0, not held from high < 0, undecided between."""
    assert verdict(interval, 0.0) == expected


def test_an_interval_that_is_no_number_decides_nothing() -> None:
    assert verdict((float("nan"), float("nan")), 0.0) == "undecided"


def test_a_claim_needs_three_seeds() -> None:
    with pytest.raises(ValueError, match="has 2 seeds; at least 3"):
        claim(seeds=(0, 1))


def test_a_claim_is_plain_data() -> None:
    assert json.loads(json.dumps(claim().as_dict()))["arms"] == {"base": {"calls": [1.0, 2.0, 3.0]}}


def test_papers_are_found_by_walking_the_package() -> None:
    papers = discover()
    assert [p.number for p in papers] == sorted(p.number for p in papers)
    assert len({p.slug for p in papers}) == len(papers)
    assert find(papers[0].slug) is not None


def test_an_unknown_paper_is_refused_with_the_nearest() -> None:
    with pytest.raises(KeyError, match="did you mean 'otc'"):
        find("otcc")
