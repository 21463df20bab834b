"""What a run shows in the terminal: a live line with progress and time left, or plain lines when piped."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Display"]

_SHOWN = (
    ("reward/mean", "reward {:.3f}"),
    ("success", "success {:.0%}"),
    ("calls/mean", "calls {:.2f}"),
    ("malformed/share", "malformed {:.0%}"),
    ("entropy", "entropy {:.3f}"),
    ("loss", "loss {:+.4f}"),
)


class Display:
    """Shows the rows of a training run; use as a context manager and hand ``show`` to ``train``."""

    def __init__(self, total: int, *, title: str = "train", console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.total, self.title = total, title
        self._live = self.console.is_terminal
        self._printed = 0.0
        self._began = time.monotonic()
        self._first: int | None = None
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[line]}"),
            console=self.console,
        )
        self._task = self._progress.add_task(title, total=total, line="")

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
            self.console.print(f"warning, step {row['step']}: {row['text']}", style="yellow", markup=False)
            return
        if row["phase"] == "data":
            self.console.print(f"data, step {row['step']}: {row['rows']:.0f} rows or pairs to learn from", markup=False)
            return
        line = "  ".join(form.format(row[name]) for name, form in _SHOWN if name in row)
        if row["phase"] == "eval":
            self.console.print(f"evaluation, step {row['step']}: {line}", markup=False)
            return
        step = int(row["step"])
        self._first = step - 1 if self._first is None else self._first
        if self._live:
            self._progress.update(self._task, completed=step, line=line)
        elif time.monotonic() - self._printed > 5 or step == self.total:
            self._printed = time.monotonic()
            spent = time.monotonic() - self._began
            left = spent / max(step - self._first, 1) * (self.total - step)
            self.console.print(
                f"{self.title} {step}/{self.total}  {line}  left {left:.0f}s",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
