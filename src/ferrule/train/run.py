"""A run folder while a run trains: where the run stands, its logs, warnings, checkpoints and limits."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ferrule.rollout.record import append
from ferrule.train import checkpoint
from ferrule.train.logs import Logs
from ferrule.train.monitor import Health, Monitor
from ferrule.train.sample import Group
from ferrule.train.settings import Settings
from ferrule.train.step import Equipment, Step, Taken

__all__ = ["Course", "NotWritten", "Run", "interruptible"]

_LOGS = ("metrics.jsonl", "episodes.jsonl", "warnings.jsonl")

Show = Callable[[Mapping[str, Any]], None]


@dataclass
class Course:
    """Where a run stands: steps and counted tokens of the whole run, and of the part (numbered through all rounds).

    ``rollbacks`` counts how often the run went back to an earlier checkpoint.
    """

    part: int = 0
    steps: int = 0
    tokens: int = 0
    part_steps: int = 0
    part_tokens: int = 0
    rollbacks: int = 0

    def enter(self, part: int) -> None:
        """Begin another part."""
        self.part, self.part_steps, self.part_tokens = part, 0, 0

    def spend(self, tokens: int, steps: int = 0) -> None:
        """Count tokens and steps."""
        self.tokens, self.part_tokens = self.tokens + tokens, self.part_tokens + tokens
        self.steps, self.part_steps = self.steps + steps, self.part_steps + steps


@dataclass
class Run:
    """What is open while a run trains; ``folder`` None keeps nothing, ``main`` is the process that writes.

    ``label`` stands in every logged row, for methods of several parts. ``back`` is the checkpoint that the run is about
    to go back to.
    """

    settings: Settings
    folder: Path | None
    health: Health = field(default_factory=Health)
    evaluate: Callable[[Any, int], Mapping[str, float]] | None = None
    show: Show | None = None
    pool: Any = None
    course: Course = field(default_factory=Course)
    label: Mapping[str, int] = field(default_factory=dict)
    interrupted: bool = False
    back: Path | None = None

    def __post_init__(self) -> None:
        """Start the clock and the monitor; logs are opened by ``open``."""
        self.main = self.pool is None or bool(self.pool.is_main_process)
        self.monitor = Monitor(self.health)
        self.began, self.longest = time.perf_counter(), 0.0
        self._logs: Logs | None = None

    def open(self) -> None:
        """Open the logs (no file is made before)."""
        if self.main and self.folder is not None:
            self._logs = Logs(self.folder, {**vars(self.settings)}, self.settings.report_to)

    def close(self) -> None:
        """Close the logs."""
        if self._logs:
            self._logs.close()

    def tell(self, row: Mapping[str, Any]) -> None:
        """Log a row and show it."""
        if not self.main:
            return
        row = {**row, **self.label}
        if self._logs and self.folder is not None:
            with _on_disk("the metrics", self.folder, self.course.steps):
                self._logs.write(row)
        if self.show:
            self.show(row)

    def warn(self, text: str) -> None:
        """Write a warning down and show it."""
        if not self.main:
            return
        row = {"step": self.course.steps, "phase": "warning", "text": text}
        if self.folder is not None:
            with (self.folder / "warnings.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if self.show:
            self.show(row)

    def record(self, taken: Taken) -> None:
        """Append the episodes of a step to the run's file."""
        if self._logs and self.folder is not None and taken.groups:
            episodes = [episode for group in taken.groups for episode in group.episodes]
            with _on_disk("the episodes", self.folder, self.course.steps):
                append(self.folder / "episodes.jsonl", episodes, _extras(taken.groups, self.course.steps))

    def measure(self, equipment: Equipment) -> None:
        """Evaluate when it is time."""
        course, every = self.course, equipment.settings.eval_steps
        if self.evaluate is not None and every and course.part_steps % every == 0:
            with equipment.whole():
                numbers = self.evaluate(equipment.policy, course.steps)
            self.tell({"step": course.steps, "phase": "eval", **numbers})

    def save(self, step: Step, equipment: Equipment) -> None:
        """Write a checkpoint; of a run that keeps nothing, none."""
        if self.folder is None or not (self.main or equipment.settings.fsdp):
            return
        state = {
            "course": asdict(self.course),
            "moving": step.state(),
            "given": sorted(self.monitor.given),
            "rows": [dict(row) for row in self.monitor.rows],
            "first": self.monitor.first,
        }
        with _on_disk("the checkpoint", self.folder, self.course.steps):
            checkpoint.write(
                self.folder, self.course.steps, equipment.policy, equipment.optimiser, state,
                keep=self.settings.save_total_limit, logs=_LOGS, main=self.main,
            )  # fmt: skip
        if self.main:
            _forget_starts(self.folder)

    def begin_again(self) -> None:
        """Empty the logs of a run that was ended before its first checkpoint, and say that it begins from the start."""
        assert self.folder is not None
        if self.main:
            checkpoint.restore_files(self.folder, {"lengths": dict.fromkeys(_LOGS, 0)})
            if self.show:
                text = f"{self.folder} was ended before its first checkpoint: the run begins from the start."
                self.show({"step": 0, "phase": "warning", "text": text})

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what ``save`` wrote about the run, and cut the logs back to that point."""
        assert self.folder is not None
        if self.main:
            checkpoint.restore_files(self.folder, state)
        self.course = Course(**state["course"])
        self.watch(state)

    def watch(self, state: Mapping[str, Any]) -> None:
        """Go on watching from what health knew at a checkpoint."""
        self.monitor = Monitor(self.health, set(state["given"]), dict(state["first"]))
        self.monitor.rows.extend(state["rows"])

    def out_of_time(self) -> bool:
        """Tell whether the next step would pass ``max_minutes``: clocks differ, so the first process decides."""
        limit = self.settings.max_minutes
        if limit is None:
            return False
        mine = time.perf_counter() - self.began + self.longest > limit * 60
        if self.pool is None:
            return mine
        from accelerate.utils import broadcast_object_list

        return bool(broadcast_object_list([mine])[0])

    @property
    def spent(self) -> bool:
        """Whether the whole run has used up its tokens."""
        most = self.settings.max_sampled_tokens
        return most is not None and self.course.tokens >= most


class NotWritten(OSError):
    """A file of a run could not be written; the message says which, why, and how the run goes on."""


@contextlib.contextmanager
def _on_disk(what: str, folder: Path, step: int) -> Iterator[None]:
    """Say what could not be written and from where the run goes on, when a disk is full or fails."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as problem:
        last = checkpoint.latest(folder)
        start = f"step {last.name.removeprefix('checkpoint-')}" if last else "the start"
        raise NotWritten(
            f"{what} of step {step} could not be written to {folder}: {problem}. Mend that (is the disk full?) and "
            f"go on with --resume, in Python resume=True: the run then begins again after {start}."
        ) from problem


def _forget_starts(folder: Path) -> None:
    """Remove the weights that parts began with which no checkpoint is in."""
    needed = {f"part-{checkpoint.state_of(place)['course']['part']}" for place in checkpoint.every(folder)}
    for start in (folder / "starts").glob("part-*"):
        if start.name not in needed:
            shutil.rmtree(start)


def _extras(groups: tuple[Group, ...], step: int) -> list[dict[str, Any]]:
    lines = []
    for group in groups:
        for j in range(len(group.episodes)):
            scores = [s for s, owner in zip(group.scores, group.owners, strict=True) if owner == j]
            listed = [{"value": s.value, "parts": dict(s.parts)} for s in scores]
            lines.append({"step": step, "phase": "train", "scores": listed})
    return lines


@contextlib.contextmanager
def interruptible(run: Run) -> Iterator[None]:
    """Let a first Ctrl-C end the run after the present step; a second one ends it at once.

    Only the main thread of a single process whose run has a folder can promise this; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread() or run.pool is not None or run.folder is None:
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def noted(number: int, frame: Any) -> None:
        if run.interrupted:
            raise KeyboardInterrupt
        run.interrupted = True
        run.warn("interrupted: the run ends after this step; press Ctrl-C again to end it at once.")

    signal.signal(signal.SIGINT, noted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
