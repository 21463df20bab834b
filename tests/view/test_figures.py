"""Curves, learning curves over seeds, and claim figures, looked at as data and as pixels."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from ferrule.view import figures

CLAIM: dict[str, Any] = {
    "arms": {"GRPO": {"calls $x": [2.0, 2.5, 3.0]}, "OTC": {"calls $x": [1.0, float("inf"), 1.5]}},
    "effect": 0.5,
    "interval": [0.4, float("inf")],
    "threshold": 0.4,
    "verdict": "held",
}


def test_curves_are_ordered_and_split_by_phase() -> None:
    rows = [
        {"step": 1, "phase": "train", "zebra": 3, "loss": 0.5, "success": 0.1, "nested": {"x": 1}, "name": "text"},
        {"step": 2, "phase": "train", "loss": float("nan"), "success": 0.3, "flag": True},
        {"step": 2, "phase": "eval", "success": 0.4},
    ]
    found = {curve.key: curve for curve in figures.curves(rows)}
    assert list(found) == ["success", "loss", "nested/x", "zebra"]
    assert found["success"].series == {"train": ((1.0, 0.1), (2.0, 0.3)), "eval": ((2.0, 0.4),)}
    assert found["success"].share
    assert found["loss"].series == {"train": ((1.0, 0.5),)}


def test_a_repeated_step_counts_once() -> None:
    """A resumed run writes a step again; the later line counts."""
    rows = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}, {"step": 2, "loss": 5.0}]
    (curve,) = figures.curves(rows)
    assert curve.series["train"] == ((1.0, 1.0), (2.0, 5.0))


def test_shares_outside_their_range_are_plain_numbers() -> None:
    (curve,) = figures.curves([{"step": 1, "success": 1.5}])
    assert not curve.share


def test_constant_curves_are_known() -> None:
    steady, moving = figures.curves([{"step": s, "a": 2.0, "b": s} for s in range(3)])
    assert (steady.constant, moving.constant) == (True, False)
    (single,) = figures.curves([{"step": 1, "a": 2.0}])
    assert single.constant, "a picture of one dot says no more than the number"
    (moved,) = figures.curves([{"step": 1, "a": 2.0}, {"step": 1, "phase": "eval", "a": 3.0}])
    assert not moved.constant


def test_smoothing_by_hand() -> None:
    """Width 3 over 3, 0, 6: the ends have two values, (3+0)/2 and (0+6)/2, the middle (3+0+6)/3."""
    assert figures.smooth([3, 0, 6], 3).tolist() == [1.5, 3.0, 3.0]
    assert figures.smooth([3, 0, 6], 1).tolist() == [3, 0, 6]


def test_ends_by_hand() -> None:
    """Twenty values 0..19: the first tenth is 0, 1 and the last 18, 19."""
    (curve,) = figures.curves([{"step": s, "x": s} for s in range(20)])
    assert curve.ends == (0.5, 18.5)


def test_inline_svg_follows_the_page(run_folder: Path) -> None:
    (curve,) = figures.curves([{"step": s, "x": s} for s in range(30)])
    figure = figures.curve_figure(curve)
    one, two = figures.inline_svg(figure, 'a "label" <b>', "one"), figures.inline_svg(figure, "b", "two")
    assert one.startswith('<svg role="img" aria-label="a &quot;label&quot; &lt;b>"')
    assert "var(--first)" in one
    assert "var(--sans)" in one
    assert not re.search("#[0-9a-f]{6}", one.replace("#one-", "")), "a colour that would not follow a dark page"
    ids = set(re.findall(r'\bid="([^"]+)"', one))
    assert ids
    assert ids.isdisjoint(re.findall(r'\bid="([^"]+)"', two))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', one))
    assert used <= ids
    assert figures.inline_svg(figures.curve_figure(curve), "b", "two") == two, "the same data gives the same drawing"


def test_drawing_leaves_settings_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    figures.claim_figure(CLAIM, tmp_path / "claim.png")
    assert dict(matplotlib.rcParams) == before


def test_learning_curve_over_seeds(build: Callable[..., Path], tmp_path: Path) -> None:
    runs = [build(tmp_path / f"seed-{seed}", seed=seed, steps=30) for seed in range(3)]
    path = figures.learning_curve(runs, tmp_path / "docs" / "curve.png")
    pixels = imread(path)
    assert pixels.shape[:2] == (600, 1200)
    blue, orange = np.array([0x16, 0x67, 0xC7]) / 255, np.array([0xC9, 0x51, 0x0C]) / 255
    near = [np.abs(pixels[..., :3] - colour).max(axis=-1) < 0.1 for colour in (blue, orange)]
    assert near[0].sum() > 1000, "the mean line"
    columns = np.nonzero(near[1].any(axis=0))[0]
    assert columns.min() < 200, "held-out success before"
    assert columns.max() > 1000, "held-out success after"


def test_learning_curve_refuses_what_it_cannot_draw(build: Callable[..., Path], tmp_path: Path) -> None:
    run = build(tmp_path / "run", steps=3)
    with pytest.raises(ValueError, match="no training values of 'reward'; it has success, reward/mean"):
        figures.learning_curve([run], tmp_path / "x.png", key="reward")
    with pytest.raises(ValueError, match="at least one run folder"):
        figures.learning_curve([], tmp_path / "x.png")


def test_claim_figure_copes_with_what_claims_hold(tmp_path: Path) -> None:
    """Names with a dollar sign are text, infinite values and ends are left out, many quantities wrap."""
    path = figures.claim_figure(CLAIM, tmp_path / "claim.png")
    assert imread(path).std() > 0.05
    many = {**CLAIM, "arms": {arm: {f"q{i}": [1, 2, 3] for i in range(9)} for arm in "abcde"}}
    assert imread(figures.claim_figure(many, tmp_path / "many.png")).shape[1] < 1500
