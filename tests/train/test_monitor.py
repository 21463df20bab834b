from __future__ import annotations

import math
from typing import Any

import pytest

from ferrule.train.monitor import Health, Monitor, left_bands

GOOD = {
    "loss": 0.1,
    "grad_norm": 1.0,
    "calls/mean": 2.0,
    "malformed/share": 0.1,
    "entropy": 0.5,
    "groups/zero_spread": 0.2,
    "drifted": 0.0,
}


def fed(monitor: Monitor, *rows: dict[str, Any]) -> list[str]:
    return [text for row in rows for text in monitor.check({**GOOD, **row})]


def test_a_healthy_run_is_not_bothered() -> None:
    assert fed(Monitor(Health(window=2)), *[{}] * 10) == []


@pytest.mark.parametrize("row", [{"loss": math.nan}, {"grad_norm": math.inf}])
def test_a_step_that_was_skipped_is_told_at_once(row: dict[str, float]) -> None:
    (text,) = fed(Monitor(), row)
    assert "not finite" in text


def test_drift_is_told_at_once() -> None:
    (text,) = fed(Monitor(), {"drifted": 1.0})
    assert "append-only" in text


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"malformed/share": 0.31}, "31% of the calls cannot be read"),
        ({"entropy": 0.002}, "entropy is 0.0020"),
        ({"groups/zero_spread": 0.96}, "96% of the groups"),
    ],
)
def test_a_window_of_trouble_is_told_once(row: dict[str, float], word: str) -> None:
    monitor = Monitor(Health(window=3))
    assert fed(monitor, row, row) == []
    (text,) = fed(monitor, row)
    assert word in text
    assert fed(monitor, row, row) == []


@pytest.mark.parametrize(("name", "word"), [("malformed/share", "cannot be read"), ("cut_off/share", "cut off at its")])
def test_shares_that_rise_over_the_first_window_are_told(name: str, word: str) -> None:
    """From 4 % by more than 10 points: the window of two passes 14 % with (0.08 + 0.22) / 2 = 0.15."""
    monitor = Monitor(Health(window=2))
    good = {**GOOD, "malformed/share": 0.0}
    told = [monitor.check({**good, name: share}) for share in (0.04, 0.04, 0.08, 0.22)]
    assert told[:3] == [[], [], []]
    (text,) = told[3]
    assert "from 4% to 15%" in text
    assert word in text
    assert "format_weight" in text


def test_a_run_that_never_names_a_tool_is_told_early() -> None:
    lost = {"attempts": 4.0, "malformed/share": 0.25, "unknown_tool/share": 0.75}
    assert fed(Monitor(), lost, lost) == []
    (text,) = fed(Monitor(), lost, lost, lost)
    assert "in 3 steps no call named a tool on offer" in text
    assert "--warm-up" in text
    assert fed(Monitor(), lost, lost, {**lost, "unknown_tool/share": 0.5}) == []
    assert fed(Monitor(), lost, lost, {**lost, "attempts": 0.0}) == [], "nothing was tried, so nothing was misnamed"


@pytest.mark.parametrize(("success", "cure"), [(0.0, "easier tasks"), (1.0, "harder levels")])
def test_a_run_without_any_spread_is_told_early_and_once(success: float, cure: str) -> None:
    level = {"groups/zero_spread": 1.0, "success": success}
    monitor = Monitor(Health(window=4))
    (text,) = fed(monitor, level, level, level)
    assert f"equal rewards ({success:.0%} of the episodes are right)" in text
    assert cure in text
    assert fed(monitor, level, level) == []
    assert fed(Monitor(), level, level, {**level, "groups/zero_spread": 0.9}) == []


def test_one_bad_step_in_a_good_window_is_no_trouble() -> None:
    assert fed(Monitor(Health(window=3)), {}, {}, {"malformed/share": 0.9 - 0.2}) == []  # (0.1 + 0.1 + 0.7) / 3 = 0.3


def test_tool_use_that_collapses_is_told() -> None:
    """The first window makes 2 calls per task; a fifth of that is 0.4."""
    monitor = Monitor(Health(window=2))
    assert fed(monitor, {}, {}, {"calls/mean": 0.5}, {"calls/mean": 0.35}) == []
    (text,) = fed(monitor, {"calls/mean": 0.25})
    assert "from 2.00 to 0.30" in text  # (0.35 + 0.25) / 2


def test_a_run_that_never_called_does_not_collapse() -> None:
    assert fed(Monitor(Health(window=2)), *[{"calls/mean": 0.0}] * 6) == []


def test_rows_without_a_number_are_passed_over() -> None:
    monitor = Monitor(Health(window=1))
    assert monitor.check({"groups": 1.0, "dropped": 3.0, "drifted": 0.0}) == []


def test_a_window_in_which_no_group_was_kept_is_told_and_compares_with_nothing() -> None:
    """Steps without groups have no calls, no entropy and no cut-offs; the first window is the first with groups."""
    monitor = Monitor(Health(window=2, bands={"cut_off/share": (0.0, 0.5)}))
    empty = {"groups": 0.0, "dropped": 3.0, "loss": 0.0}
    assert monitor.check(empty) == []
    (told,) = monitor.check(empty)
    assert told.startswith("in 2 steps no group was kept for training")
    full = {**GOOD, "groups": 2.0, "cut_off/share": 0.1}
    assert [text for row in (full, full, empty, full) for text in monitor.check(row)] == []
    assert monitor.first["calls/mean"] == 2.0
    (few,) = [text for row in [{**full, "calls/mean": 0.3}] * 2 for text in monitor.check(row)]
    assert few.startswith("calls per task fell from 2.00 to 0.30")


def test_a_model_that_writes_nothing_is_told_at_once() -> None:
    """Prompts that do not fit the context leave no room for a single token."""
    (text,) = Monitor().check({"tokens": 0.0, "groups": 2.0, "loss": 0.0, "grad_norm": 0.0})
    assert "do not fit its context" in text
    assert Monitor().check({"tokens": 0.0, "groups": 0.0}) == []  # all groups were dropped


def test_any_metric_may_be_kept_within_a_band() -> None:
    monitor = Monitor(Health(window=2, bands={"cut_off/share": (0.0, 0.1), "kl": (0.0, 0.01)}))
    rows = [{"cut_off/share": 0.1, "kl": 0.0}, {"cut_off/share": 0.0, "kl": 0.001}]
    assert fed(monitor, *rows) == []
    (told,) = fed(monitor, {"cut_off/share": 0.3, "kl": 0.0})
    assert told == "cut_off/share is 0.15; it was to stay between 0 and 0.1."
    assert "kl is nan" in fed(Monitor(Health(window=1, bands={"kl": (0.0, 0.01)})), {})[0]


def test_bands() -> None:
    bands = {"entropy": (0.1, 2.0), "calls": (0.2, 5.0), "cut": (0.0, 0.1)}
    assert left_bands({"entropy": 0.05, "calls": 1.0, "cut": math.nan}, bands) == ["entropy", "cut"]
    assert left_bands({"entropy": 1, "calls": 1}, bands) == ["cut"]
    assert left_bands({"entropy": math.inf}, {"entropy": (0, math.inf)}) == ["entropy"]
