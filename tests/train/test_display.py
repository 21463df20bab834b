from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from ferrule.train.display import Display, fitting


def row(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "phase": "train", "reward/mean": 0.5, "success": 0.25, "loss": -0.125, **more}


def piped(total: int, *rows: dict[str, Any]) -> str:
    out = io.StringIO()
    with Display(total, title="mine", console=Console(file=out, width=200)) as display:
        for one in rows:
            display.show(one)
    return out.getvalue()


def test_a_pipe_gets_plain_lines_the_first_and_the_last() -> None:
    """Lines in between come at most every five seconds. The first step, in which kernels are compiled, foretells nothing."""
    lines = piped(3, row(1), row(2), row(3)).splitlines()
    assert len(lines) == 2
    assert lines[0] == "mine 1/3  reward 0.500  success 25%  loss -0.1250"
    assert lines[1].startswith("mine 3/3")
    assert lines[1].endswith("left 0s")


def test_the_first_step_of_a_part_says_what_there_is_to_learn_from() -> None:
    more = {"groups": 8.0, "groups/mixed": 0.375, "learning_rate": 3e-4}
    text = piped(9, row(1, **more), row(2, **more), row(3, **more, round=0, part=1), row(4, loss=1.0))
    plan = "plan: 8 tasks a step, first rate 0.0003; at the start 38% of the groups are mixed"
    assert text.splitlines().count(plan) == 2


def test_warnings_and_evaluations_are_always_told() -> None:
    text = piped(
        9,
        {"step": 2, "phase": "warning", "text": "[bold]entropy[/bold] is low"},
        {"step": 2, "phase": "eval", "success": 0.5},
    )
    assert "warning, step 2: [bold]entropy[/bold] is low" in text
    assert "evaluation, step 2: success 50%" in text


def test_a_resumed_run_counts_its_own_steps() -> None:
    """Steps 8 and 9 of 10 at once: what is left follows from the steps of this run, not from step 8."""
    assert "left 0s" in piped(9, row(8), row(9)).splitlines()[-1]


FULL = {"calls/mean": 1.25, "malformed/share": 0.05, "entropy": 0.5}


def test_a_line_fits_80_columns_and_holds_whole_numbers_only() -> None:
    """What tells most comes first; 12 + 2 + 11 characters are "reward 0.500  success 25%"."""
    out = io.StringIO()
    with Display(400, title="a-name-that-is-long", console=Console(file=out, width=80)) as display:
        display.show(row(12, **FULL))
    (line,) = out.getvalue().splitlines()
    assert len(line) <= 80
    assert line.startswith("a-name-that-is-… 12/400  reward 0.500  success 25%  calls 1.25")
    assert fitting(row(1), 25) == "reward 0.500  success 25%"
    assert fitting(row(1), 24) == "reward 0.500"


def test_a_live_line_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    out = io.StringIO()
    with Display(400, title="mine", console=Console(file=out, width=80, force_terminal=True)) as display:
        display.show(row(399, **FULL))
        display.show(row(400, **FULL))
    shown = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in re.split(r"[\r\n]+", out.getvalue())]
    assert max(map(len, shown)) <= 80
    assert "400/400" in shown[-2]
    assert shown[-2].rstrip().endswith("reward 0.500  success 25%  calls 1.25")


def test_in_ci_a_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")
    out = io.StringIO()
    with Display(9, console=Console(file=out, width=80, force_terminal=True)) as display:
        display.show(row(9))
    assert out.getvalue() == "train 9/9  reward 0.500  success 25%  loss -0.1250  left 0s\n"


def test_long_warnings_stay_one_line() -> None:
    text = "a long warning " * 20
    assert piped(9, {"step": 2, "phase": "warning", "text": text}).splitlines() == [f"warning, step 2: {text}"]


def test_a_terminal_gets_a_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    out = io.StringIO()
    with Display(2, console=Console(file=out, width=160, force_terminal=True)) as display:
        display.show(row(1))
        display.show(row(2))
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "2/2" in text
    assert "reward 0.500" in text


def test_a_row_without_numbers_can_be_shown() -> None:
    assert "mine 1/1" in piped(1, {"step": 1, "phase": "train"})
