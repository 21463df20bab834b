"""A claim made from its conditions: every one decides, one of them is its effect."""

from __future__ import annotations

import pytest

from ferrule.studies.old import at_least, judged, over_seeds, scale_of


def test_all_conditions_decide_and_one_is_the_effect() -> None:
    """1, 2, 3: mean 2, half width 4.303 / sqrt(3) = 2.48, so at least 0 is undecided and at least 5 is not held."""
    sure, open_, missed = (
        at_least(name, [1.0, 2.0, 3.0], least) for name, least in (("a", -1.0), ("b", 0.0), ("c", 5.0))
    )
    rest = {"paper": "p", "statement": "s", "arms": {}, "falsifier": "f", "seeds": (0, 1, 2)}
    assert judged([sure], **rest).verdict == "held"
    assert judged([sure, open_], **rest).verdict == "undecided"
    claim = judged([sure, open_, missed], first=2, setup={"steps": 4}, **rest)
    assert (claim.verdict, claim.measured, claim.threshold, claim.effect) == ("not held", "c", 5.0, 2.0)
    assert claim.setup["steps"] == 4
    assert [row["name"] for row in claim.setup["conditions"]] == ["a", "b", "c"]
    assert [note.split(":")[0] for note in claim.notes] == ["a", "b", "c"]


def test_conditions_beside_are_told_and_decide_nothing() -> None:
    held, missed = at_least("a", [1.0, 1.0, 1.0], 0.0), at_least("b", [1.0, 1.0, 1.0], 2.0)
    rest = {"paper": "p", "statement": "s", "arms": {}, "falsifier": "f", "seeds": (0, 1, 2)}
    claim = judged([held], beside=[missed], notes=["last"], **rest)
    assert claim.verdict == "held"
    assert [note.partition(": ")[0] for note in claim.notes] == ["a", "Beside the verdict", "last"]
    assert [row["verdict"] for row in claim.setup["conditions"]] == ["held", "not held"]


def test_rows_become_lists_and_unknown_scales_are_refused() -> None:
    assert over_seeds({"one": [{"x": 1.0}, {"x": 2.0}], "two": [{"x": 3.0}]}) == {
        "one": {"x": [1.0, 2.0]}, "two": {"x": [3.0]},
    }  # fmt: skip
    assert scale_of({"small": 5, "tiny": 1}, "tiny") == 1
    with pytest.raises(ValueError, match="scale is 'large'; known: small, tiny"):
        scale_of({"tiny": 1, "small": 5}, "large")
