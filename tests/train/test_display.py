from __future__ import annotations

import io
import re
from typing import Any

from rich.console import Console

from ferrule.train.display import Display


def row(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "phase": "train", "reward/mean": 0.5, "success": 0.25, "loss": -0.125, **more}


def piped(total: int, *rows: dict[str, Any]) -> str:
    out = io.StringIO()
    with Display(total, title="mine", console=Console(file=out, width=200)) as display:
        for one in rows:
            display.show(one)
    return out.getvalue()


def test_a_pipe_gets_plain_lines_the_first_and_the_last() -> None:
    """Lines in between come at most every five seconds."""
    lines = piped(3, row(1), row(2), row(3)).splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"mine 1/3  reward 0\.500  success 25%  loss -0\.1250  left \d+s", lines[0])
    assert lines[1].startswith("mine 3/3")
    assert lines[1].endswith("left 0s")


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


def test_a_terminal_gets_a_live_line() -> None:
    out = io.StringIO()
    with Display(2, console=Console(file=out, width=160, force_terminal=True)) as display:
        display.show(row(1))
        display.show(row(2))
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "2/2" in text
    assert "reward 0.500" in text


def test_a_row_without_numbers_can_be_shown() -> None:
    assert "mine 1/1" in piped(1, {"step": 1, "phase": "train"})
