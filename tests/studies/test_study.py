"""Studies as values: units, rows, conditions, the condition that is shown, goldens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ferrule.studies import golden
from ferrule.studies.conditions import Rows, at_least, less, minus, of, over, within
from ferrule.studies.study import Study, Unit


def plain(*, seed: int, steps: int) -> dict[str, float]:
    return {"success": 0.1 * steps + 0.01 * seed, "seconds": 0.5}


def better(*, seed: int, steps: int) -> dict[str, float]:
    return {"success": 0.1 * steps + 0.02 * seed + 0.3, "seconds": 0.1}


def two(*, seed: int, steps: int) -> dict[str, dict[str, float]]:
    return {"left": {"success": float(seed)}, "right": {"success": float(seed + steps)}}


def study(**changes: Any) -> Study:
    base: dict[str, Any] = {
        "paper": "otc",
        "statement": "better is better",
        "falsifier": "it is not",
        "arms": {"plain": plain, "better": better},
        "asks": (at_least("better minus plain", less("success", "better", "plain"), 0.2),),
        "sizes": {"small": {"steps": 2}, "tiny": {"steps": 1}},
        "seeds": (0, 1, 2),
        "machine": ("seconds",),
    }
    return Study(**{**base, **changes})


def test_calling_a_study_gives_its_claim() -> None:
    """Differences 0.30, 0.31, 0.32: mean 0.31, Student half width 4.303 * 0.01 / sqrt(3) = 0.0248."""
    claim = study()()
    assert claim.verdict == "held"
    assert claim.effect == pytest.approx(0.31)
    assert claim.interval == pytest.approx((0.31 - 0.02484, 0.31 + 0.02484), abs=1e-4)
    assert claim.arms["plain"]["success"] == pytest.approx([0.2, 0.21, 0.22])
    assert claim.setup["size"] == {"steps": 2}
    assert claim.seeds == (0, 1, 2)


def test_the_first_condition_that_fails_is_shown() -> None:
    asks = (
        at_least("easy", of("better", "success"), 0.0),
        at_least("beside", of("plain", "success"), 100.0, decides=False),
        at_least("hard", of("plain", "success", factor=-1.0, plus=0.5), 0.4),
    )
    claim = study(asks=asks)()
    assert (claim.measured, claim.verdict) == ("hard", "not held")
    assert claim.effect == pytest.approx(0.5 - 0.21)
    assert claim.notes[1].startswith("Beside the verdict: beside")


def test_a_condition_may_read_rows_made_from_all_seeds() -> None:
    """``plain`` has 0.20, 0.21 and 0.22; less their median they are -0.01, 0 and 0.01."""

    def median(seeds: Sequence[Rows]) -> Rows:
        return {"all": {"success": sorted(rows["plain"]["success"] for rows in seeds)[1]}}

    condition = at_least("plain less its median", less("success", "plain", "all"), 0.0, pooled=median)
    claim = study(asks=(condition,))()
    assert claim.setup["conditions"][0]["values"] == pytest.approx((-0.01, 0.0, 0.01))
    assert claim.verdict == "undecided"


def test_values_of_one_seed() -> None:
    """3 and 2: the one less the other is 1, and the relative fall from 2 to 3 is 1 - 3/2."""
    rows: Rows = {"one": {"calls": 3.0}, "other": {"calls": 2.0}}
    assert of("one", "calls", factor=-1.0, plus=0.5)(rows) == -2.5
    assert less("calls", "one", "other")(rows) == 1.0
    assert over("calls", "one", "other")(rows) == 1.5
    assert over("calls", "one", "other", factor=-1.0, plus=1.0)(rows) == -0.5


def test_equivalence_needs_the_whole_interval_inside_the_margin() -> None:
    """Half width 0.0248 around 0.31: inside 0.4, astride 0.32, and wholly outside 0.2."""
    value = less("success", "better", "plain")
    verdicts = [study(asks=(within("gap", value, margin),))().verdict for margin in (0.4, 0.32, 0.2)]
    assert verdicts == ["held", "undecided", "not held"]


def test_an_arm_may_give_several_rows() -> None:
    joint = study(arms={"both": two}, asks=(at_least("gap", less("success", "right", "left"), 1.0),))
    assert joint.measure(Unit("otc", "both", 1, "tiny")) == {"left": {"success": 1.0}, "right": {"success": 2.0}}
    assert set(joint().arms) == {"left", "right"}


def test_what_a_study_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="size is 'smal'; did you mean 'small'"):
        study()("smal")
    with pytest.raises(ValueError, match="lacks the sizes tiny"):
        study(sizes={"small": {}})
    with pytest.raises(ValueError, match="no condition of the study of 'otc' decides"):
        study(asks=(at_least("x", of("plain", "success"), 0, decides=False),))


def test_goldens_tell_a_changed_arm(tmp_path: Path) -> None:
    golden.write(tmp_path, study())
    stored = golden.read(tmp_path, "otc")["arms"]
    asked = golden.read(tmp_path, "otc")["asks"]["better minus plain"]
    assert (asked["value"], asked["threshold"]) == (0.3, 0.2)
    assert stored["plain"] == {"plain": {"success": 0.1}}  # what measures the machine is left out
    assert golden.differences(stored["plain"], golden.golden(study(), "plain")) == []

    def swapped(**settings: Any) -> Mapping[str, Any]:
        return better(**settings)

    (line,) = golden.differences(stored["plain"], golden.golden(study(arms={"plain": swapped}), "plain"))
    assert line == "plain, success: stored 0.1, measured 0.4"
    assert golden.digest(stored["plain"]) != golden.digest(stored["better"])
    assert golden.digest(None) == "none"


def test_any_two_numbers_of_a_seed_may_be_compared() -> None:
    """4 - 1 = 3; 3 - (4 - 2) = 1."""
    rows: Rows = {"a": {"x": 4.0, "y": 2.0}, "b": {"x": 1.0}}
    first = minus(of("a", "x"), of("b", "x"))
    assert first(rows) == 3.0
    assert minus(first, minus(of("a", "x"), of("a", "y")))(rows) == 1.0
