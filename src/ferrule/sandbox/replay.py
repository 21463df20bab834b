"""The calls that a process has run, kept so that a copy of it can repeat them."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Log", "Step"]

_MOST = 16 << 20  # bytes of code and answers of functions


@dataclass
class Step:
    """One call that a process has run, and what the functions it called had answered (JSON)."""

    code: str
    answers: list[bytes] = field(default_factory=list)


@dataclass
class Log:
    """The steps of one process, until they are too large: then none are kept, as a part of them is of no use."""

    steps: list[Step] = field(default_factory=list)
    left: int = _MOST

    @property
    def whole(self) -> bool:
        """True while nothing had to be left out."""
        return self.left >= 0

    def spend(self, size: int) -> bool:
        """Take ``size`` bytes of what may be kept; False when that is too much, now or before."""
        if self.left >= 0:
            self.left -= size
        if self.left < 0:
            self.steps = []
        return self.whole

    def add(self, step: Step) -> None:
        """Keep a step; its answers were counted when they were given."""
        if self.spend(len(step.code)):
            self.steps.append(step)

    def copy(self) -> Log:
        """Return a log that goes on by itself."""
        return Log([*self.steps], self.left)
