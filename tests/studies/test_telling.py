"""Stored claims in words, what they took, and whether they are stale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ferrule.evaluate.queue import append
from ferrule.studies.conditions import at_least, of
from ferrule.studies.measure import claim_of, jobs_of, stale
from ferrule.studies.study import Study, Unit
from ferrule.studies.telling import Cost, cell, cost_of, numeral, sentence


def test_words() -> None:
    assert [numeral(value) for value in (0.123456, 12345.6, float("inf"))] == ["0.1235", "12,346", "inf"]
    assert cell("a |\n b") == "a \\| b"
    assert [sentence(text) for text in ("a table", "It learns.")] == ["A table.", "It learns."]


def unit(arm: str, seed: int, seconds: float, **more: Any) -> dict[str, Any]:
    result = {arm: {"success": 0.5, **({"sampled": 100.0} if arm == "grpo" else {})}}
    return {"arm": arm, "seed": seed, "size": "small", "seconds": seconds, "result": result, **more}


def test_the_cost_of_a_claim_counts_every_unit_once_and_its_trials(tmp_path: Path) -> None:
    """10 s replaced 99 s; a trial on a development seed counts, another size and a seed nobody asks for do not."""
    units = [
        unit("grpo", 100, 99.0), unit("grpo", 100, 10.0), unit("otc", 100, 5.0),
        unit("grpo", 0, 1.0, changes={"rate": 2.0}), unit("grpo", 7, 50.0), {**unit("grpo", 100, 50.0), "size": "tiny"},
    ]  # fmt: skip
    (tmp_path / "units").mkdir()
    (tmp_path / "units/otc.jsonl").write_text("".join(json.dumps(line) + "\n" for line in units))
    claim = {"size": "small", "seeds": [100], "setup": {"tuned": {"seeds": [0]}}}
    cost = cost_of(claim, "otc", tmp_path)
    assert cost == Cost(3, 16.0, 200.0)
    assert str(cost) == "16 s of one core in 3 units, 200 generated tokens"
    assert str(Cost(2, 1200.0, None)) == "20 min of one core in 2 units"
    assert cost_of(claim, "aspo", tmp_path) is None


def arm(*, seed: int, steps: int) -> dict[str, float]:
    return {"success": steps + 0.1 * seed}


def study(*, threshold: float = 0.0, steps: int = 3, seeds: tuple[int, ...] = (0, 1, 2)) -> Study:
    return Study(
        "otc", "s", "f", {"one_arm": arm}, (at_least("success", of("one_arm", "success"), threshold),),
        {"small": {"steps": steps}, "tiny": {"steps": 1}}, seeds,
    )  # fmt: skip


def run(one: Unit) -> dict[str, dict[str, Any]]:
    return study().measure(one)


@pytest.mark.parametrize(
    ("today", "says"),
    [
        (study(), []),
        (study(steps=4), ["these arms compute since they were measured: one arm."]),
        (study(threshold=0.5), ["new, gone or asked otherwise since it was judged: success."]),
        (study(seeds=(0, 1, 2, 3)), []),
        (study(seeds=(100, 101, 102)), ["measures the seeds 100 to 102 by now."]),
    ],
)
def test_a_claim_is_stale_when_arms_conditions_or_seeds_have_changed(
    today: Study, says: list[str], tmp_path: Path
) -> None:
    for one, job in jobs_of(study(), run, tmp_path).items():
        append(job, run(one), 0.0)
    claim = claim_of(study(), run, tmp_path)
    assert claim is not None
    told = stale(claim.as_dict(), today, run, tmp_path)
    assert [sentence.endswith(end) for sentence, end in zip(told, says, strict=True)] == [True] * len(says)
