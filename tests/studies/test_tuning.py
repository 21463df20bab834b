"""Settings of arms at their best: what is tried, what is chosen, and what is measured with it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ferrule.evaluate.queue import append
from ferrule.studies.conditions import at_least, less
from ferrule.studies.measure import claim_of, jobs_of, stale_arms
from ferrule.studies.study import Study, Unit
from ferrule.studies.tuning import Tuned, Tuning, best

RATES = Tuning("rate", (1.0, 2.0, 4.0), {"steps": 2}, seeds=(0, 1))


def slow(*, seed: int, steps: int, rate: float) -> dict[str, float]:
    """Best at the rate 4; only the trials take 2 steps."""
    return {"success": rate * steps + 0.1 * seed}


def hasty(*, seed: int, steps: int, rate: float) -> dict[str, float]:
    """Best at the rate 2, which breaks down at 4."""
    return {"success": math.nan if rate > 3 else 0.5 * rate * steps + 0.1 * seed}


def study(**changes: Any) -> Study:
    base: dict[str, Any] = {
        "paper": "otc",
        "part": "tuned",
        "statement": "slow is better",
        "falsifier": "it is not",
        "arms": {"slow": slow, "hasty": hasty},
        "asks": (at_least("slow minus hasty", less("success", "slow", "hasty"), 20.0),),
        "sizes": {"small": {"steps": 8}, "tiny": {"steps": 1, "rate": 1.0}},
        "seeds": (100, 101, 102),
        "tuning": RATES,
    }
    return Study(**{**base, **changes})


def run(unit: Unit) -> dict[str, dict[str, float]]:
    return study().measure(unit)  # type: ignore[return-value]


def test_every_arm_is_measured_with_the_rate_that_served_it_best() -> None:
    """Trials of 2 steps, seeds 0 and 1: slow 2.05, 4.05, 8.05; hasty 1.05, 2.05, not a number. 8 steps: 32 less 8."""
    claim = study()()
    tuned = claim.setup["tuned"]
    assert tuned["arms"]["slow"]["value"] == 4.0
    assert tuned["arms"]["slow"]["means"] == pytest.approx((2.05, 4.05, 8.05))
    assert tuned["arms"]["hasty"]["value"] == 2.0
    assert (tuned["setting"], tuned["seeds"], tuned["size"]) == ("rate", (0, 1), {"steps": 2})
    assert claim.effect == pytest.approx(24.0)
    assert claim.seeds == (100, 101, 102)


def test_a_size_that_gives_the_setting_is_not_tuned() -> None:
    assert study().trials("tiny") == {}
    assert "tuned" not in study()("tiny").setup
    assert study().measure(Unit("otc-tuned", "slow", 1, "tiny")) == {"slow": {"success": 1.1}}


def test_ties_go_to_what_is_named_first() -> None:
    trials = [(value, {"success": 0.5}) for value in (4.0, 2.0, 1.0)]
    assert best(Tuning("rate", (1.0, 2.0, 4.0)), trials) == Tuned(1.0, (0.5, 0.5, 0.5))


def test_trials_come_before_units_and_both_go_on_where_they_were(tmp_path: Path) -> None:
    """2 arms, 3 values and 2 seeds are 12 trials; then 2 arms and 3 seeds are 6 units with their rates."""
    trials = jobs_of(study(), run, tmp_path)
    assert len(trials) == 12
    assert {job.about["size"] for job in trials.values()} == {"small"}
    assert claim_of(study(), run, tmp_path) is None
    for unit, job in trials.items():
        append(job, run(unit), 0.0)
    units = jobs_of(study(), run, tmp_path)
    assert [dict(unit.changes)["rate"] for unit in units] == [4.0, 2.0] * 3
    assert {job.address for job in units.values()}.isdisjoint(job.address for job in trials.values())
    for unit, job in units.items():
        append(job, run(unit), 0.0)
    claim = claim_of(study(), run, tmp_path)
    assert claim is not None
    assert (claim.slug, claim.verdict) == ("otc-tuned", "held")
    assert json.loads((tmp_path / "units/otc-tuned.jsonl").read_text().splitlines()[-1])["changes"] == {"rate": 2.0}
    assert stale_arms(claim.as_dict(), study(), run, tmp_path) == []
    other = study(tuning=Tuning("rate", (1.0, 3.0), {"steps": 2}))
    assert stale_arms(claim.as_dict(), other, run, tmp_path) == ["slow", "hasty"]


def test_a_choice_among_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="the least is two different ones"):
        Tuning("rate", (1.0, 1.0))
    with pytest.raises(ValueError, match="would be chosen by nothing"):
        Tuning("rate", (1.0, 2.0), seeds=())
