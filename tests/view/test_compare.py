"""Before against after: what is read, what the sentence says, and when it says that nothing is certain."""

from __future__ import annotations

from typing import Any

import pytest

from ferrule.view.compare import Measure, Row, blocks, measure, verdict


def arm(success: Any, interval: Any = None, count: Any = 200) -> dict[str, Any]:
    return {"success": success, "interval": interval, "count": count}


def sides(before: Any, after: Any) -> dict[str, Any]:
    return {"before": {"arms": {"with tools": before}}, "after": {"arms": {"with tools": after}}}


def test_rise_with_intervals_apart() -> None:
    """0.75 - 0.25 is 50 points; [.2, .3] ends before [.7, .8] begins."""
    said = verdict(blocks(sides(arm(0.25, [0.2, 0.3]), arm(0.75, [0.7, 0.8]))))
    assert said == (
        "Success (with tools) rose by 50.0 points, from 25.0% to 75.0% on 200 held-out tasks; "
        "the 95% intervals lie apart."
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (arm(0.5, [0.4, 0.6]), arm(0.55, [0.45, 0.65]), "rose by 5.0 points, from 50.0% to 55.0% on 200 held-out"),
        (arm(0.5, [0.4, 0.6]), arm(0.55, [0.45, 0.65]), "overlap, so this may be chance"),
        (arm(0.5, [0.4, 0.6]), arm(0.6, [0.6, 0.7]), "overlap"),  # intervals that touch are not apart
        (arm(0.8, [0.7, 0.9]), arm(0.2, [0.1, 0.3]), "fell by 60.0 points"),
        (arm(0.5, [0.4, 0.6]), arm(0.5, [0.4, 0.6]), "stayed at 50.0%"),
        (arm(0.2), arm(0.9), "no intervals were recorded, so chance is not excluded"),
        (arm(0.2, count=10), arm(0.9, count=20), "from 20.0% to 90.0%;"),  # unequal counts: no number of tasks
        (arm(None), arm(0.9), "is 90.0%; the evaluation before training was not recorded"),
        (arm(0.2), None, "is 20.0%; the evaluation after training was not recorded"),
        (None, None, "was not recorded"),
    ],
)
def test_what_the_sentence_claims(before: Any, after: Any, expected: str) -> None:
    assert expected in verdict(blocks(sides(before, after)))


def test_nothing_recorded() -> None:
    assert verdict(blocks({})) == "Success before and after was not recorded."
    assert blocks({"before": "odd", "after": [1]}) == []


def test_rows_are_whole_worlds_levels() -> None:
    inner = {**arm(0.5), "by_world": {"apis": arm(0.4)}, "by_level": {"1": arm(0.9), "5": arm(0.1)}}
    later = {**arm(0.6), "by_level": {"2": arm(0.7)}}
    (block,) = blocks(sides(inner, later))
    assert [row.label for row in block.rows] == ["all tasks", "apis", "level 1", "level 5", "level 2"]
    assert block.rows[1].after == Measure()
    assert block.rows[0].change == pytest.approx(0.1)


def test_other_numbers_are_kept() -> None:
    (block,) = blocks(sides({**arm(0.5), "calls": 1.5, "finish": {"stop": 3}}, {**arm(0.6), "calls": 2.0, "odd": 7}))
    assert [(other.label, other.before, other.after) for other in block.others] == [
        ("tool calls per episode", 1.5, 2.0),
        ("odd", None, 7.0),
    ]


def test_worlds_evaluated_apart_become_blocks() -> None:
    data = {"before": {"worlds": {"apis": {"arms": {"with tools": arm(0.2)}}, "facts": arm(0.3)}}, "after": {}}
    assert [block.title for block in blocks(data)] == ["apis, with tools", "facts"]


def test_odd_measurements_become_missing_ones() -> None:
    assert measure({"success": float("nan"), "interval": [0.1, None], "count": "ten"}) == Measure()
    assert measure({"success": True, "interval": [0.1, 0.2, 0.3]}) == Measure()
    assert measure(0.25) == Measure(0.25)
    assert not Row("r", Measure(0.1, (0.0, 0.2)), Measure(0.9)).apart
