"""What a run shows: a live line that fits the terminal, or plain lines where output is piped or kept (CI)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Display", "fitting"]

_SHOWN = (
    ("reward/mean", "reward {:.3f}"),
    ("success", "success {:.0%}"),
    ("calls/mean", "calls {:.2f}"),
    ("malformed/share", "unreadable {:.0%}"),
    ("entropy", "entropy {:.3f}"),
    ("loss", "loss {:+.4f}"),
)


def fitting(row: Mapping[str, Any], room: int) -> str:
    """Return the numbers of a row, the most telling first, as many as fit into ``room`` characters."""
    line = ""
    for text in (form.format(row[name]) for name, form in _SHOWN if name in row):
        longer = f"{line}  {text}" if line else text
        if len(longer) > room:
            break
        line = longer
    return line


def _duration(seconds: float) -> str:
    """Write seconds shortly: 95s, 12m, 3h05m."""
    minutes = round(seconds / 60)
    return (
        f"{seconds:.0f}s"
        if seconds < 100
        else f"{minutes}m"
        if minutes < 100
        else f"{minutes // 60}h{minutes % 60:02}m"
    )


def _plan(row: Mapping[str, Any]) -> str:
    """Say what a step holds, and in how many groups some episodes are right and some wrong, by the first step."""
    mixed = row.get("groups/mixed", 0.0)
    return (
        f"plan: {row['groups']:.0f} tasks a step, first rate {row.get('learning_rate', 0.0):g}; "
        f"at the start {mixed:.0%} of the groups are mixed"
    )


class Display:
    """Shows the rows of a training run; use as a context manager and hand ``show`` to ``train``."""

    def __init__(self, total: int, *, title: str = "train", console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.total, self.title = total, title if len(title) <= 16 else title[:15] + "…"
        self._live = self.console.is_terminal and not self.console.is_dumb_terminal and not os.environ.get("CI")
        bar = 24 if self.console.width >= 120 else 10
        # Name, bar, count and time left with a space after each; the numbers get what is left of the terminal's width.
        self._room = self.console.width - len(self.title) - bar - (2 * len(str(total)) + 1) - len("0:00:00 left") - 5
        self._printed = 0.0
        self._first: tuple[int, float] | None = None
        self._planned: set[tuple[Any, Any]] = set()
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=bar),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            TextColumn("{task.fields[line]}", markup=False),
            console=self.console,
        )
        self._task = self._progress.add_task(escape(self.title), total=total, line="")

    def __enter__(self) -> Display:
        """Start the live line."""
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the live line and leave the last state on the screen."""
        if self._live:
            self._progress.stop()

    def show(self, row: Mapping[str, Any]) -> None:
        """Take one logged row."""
        if row["phase"] == "warning":
            self._say(f"warning, step {row['step']}: {row['text']}", style="yellow")
            return
        if row["phase"] == "data":
            self._say(f"data, step {row['step']}: {row['rows']:.0f} rows or pairs to learn from")
            return
        if row["phase"] == "eval":
            self._say(f"evaluation, step {row['step']}: {fitting(row, self.console.width)}")
            return
        step = int(row["step"])
        if row.get("groups") and (row.get("round"), row.get("part")) not in self._planned:
            self._planned.add((row.get("round"), row.get("part")))
            self.console.print(_plan(row), markup=False, highlight=False)
        self._first = self._first or (step, time.monotonic())
        if self._live:
            self._progress.update(self._task, completed=step, line=fitting(row, self._room))
        elif time.monotonic() - self._printed > 5 or step == self.total:
            self._printed = time.monotonic()
            before, since = self._first
            spent = (time.monotonic() - since) / max(step - before, 1)
            # The first step says little: caches are filled and kernels compiled in it.
            left = f"left {_duration(spent * (self.total - step))}" if step > before or step == self.total else ""
            count = f"{self.title} {step}/{self.total}"
            line = fitting(row, self.console.width - len(count) - len(left) - 4)
            self._say("  ".join(filter(None, (count, line, left))))

    def _say(self, line: str, style: str | None = None) -> None:
        """Print one line as it is, whatever the width: files and logs of CI are searched by line."""
        self.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
