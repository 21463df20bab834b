"""The figures of the page on evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ferrule.view.evidence import arenas_figure, effect_of, effects_figure
from ferrule.view.figures import write_png

CLAIM: dict[str, Any] = {
    "effect": 0.5, "interval": [0.25, 0.75], "threshold": 0.4, "grade": "B", "verdict": "undecided",
}  # fmt: skip


def test_distances_are_from_the_threshold_and_positive_on_the_side_of_the_paper() -> None:
    row = effect_of(CLAIM, "06 otc")
    assert (row.low, row.effect, row.high) == pytest.approx((-0.15, 0.1, 0.35))


@pytest.mark.parametrize(
    ("interval", "effect", "wanted"),
    [
        ([-1.0, 2.0], 0.5, (1.0, 2.5, 3.0)),  # inside the margin of 3: the ends are 2 and 1 away from it
        ([2.0, 5.0], 3.5, (-2.0, -0.5, 1.0)),
        ([-5.0, -4.0], -4.5, (-2.0, -1.5, -1.0)),
    ],
)
def test_distances_within_a_margin_are_from_its_nearer_end(
    interval: list[float], effect: float, wanted: tuple[float, ...]
) -> None:
    row = effect_of({**CLAIM, "interval": interval, "effect": effect, "threshold": 3.0}, "26", margin=True)
    assert (row.low, row.effect, row.high) == wanted


def test_every_row_stands_in_the_panel_of_its_grade() -> None:
    rows = [effect_of({**CLAIM, "grade": grade}, f"{grade}{i}", "0.5") for grade in "CA" for i in range(2)]
    first, second = effects_figure(rows).axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["grade A", "grade C"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["A1", "A0"]  # from below
    # The farthest end, 0.35 above the threshold, is one unit away: the effect lies at 0.1 / 0.35.
    (point,) = [line for line in second.lines if line.get_marker() == "s"][:1]
    assert list(point.get_xdata()) == [pytest.approx(0.1 / 0.35)]
    with pytest.raises(ValueError, match="at least one"):
        effects_figure([])


def test_an_effect_that_is_its_threshold_is_drawn(tmp_path: Path) -> None:
    still = {**CLAIM, "effect": 0.4, "interval": [0.4, 0.4], "verdict": "held"}
    path = write_png(effects_figure([effect_of(still, "06")]), tmp_path / "a.png", comment="drawn from 5f3a")
    assert b"drawn from 5f3a" in path.read_bytes()


def test_arenas_show_what_is_told_apart() -> None:
    """Only intervals that leave out 0 are filled."""
    told = {"difference": 0.05, "difference_interval": [0.01, 0.09]}
    open_ = {"difference": -0.02, "difference_interval": [-0.05, 0.01]}
    base = {"difference": None, "difference_interval": None}
    training = {"about": {"against": "grpo"}, "rows": [{"recipe": "grpo", **base}, {"recipe": "otc", **told}]}
    agents = {
        "about": {"against": "loop"},
        "rows": [{"agent": "loop", "world": "apis", **base}, {"agent": "beam", "world": "apis", **open_}],
    }
    left, right = arenas_figure(training, agents).axes
    for axes, label, at, filled in ((left, "otc", 5.0, True), (right, "beam, apis", -2.0, False)):
        assert [text.get_text() for text in axes.get_yticklabels()] == [label]
        (point,) = [line for line in axes.lines if line.get_marker() == "o"]
        assert list(point.get_xdata()) == [pytest.approx(at)]
        assert (point.get_markerfacecolor() != "white") is filled
