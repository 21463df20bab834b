"""Reference solutions: how a task is solved, as given by the world that the task comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ferrule.core.records import Answer, Call, Task

__all__ = ["Demonstrates", "Demonstration"]


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One way to solve a task: rounds of calls, the calls of a round run together, and then the answer.

    ``answer`` is None where a call gives the answer or the task asks for none.
    """

    rounds: tuple[tuple[Call, ...], ...] = ()
    answer: Answer = None

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls in order."""
        return tuple(call for calls in self.rounds for call in calls)


@runtime_checkable
class Demonstrates(Protocol):
    """The extra power of a world that knows how its tasks are solved.

    Carrying a demonstration out in a session of its task solves the task. The model never sees it; rewards that compare
    calls and corpora of examples do.
    """

    def demonstrate(self, task: Task) -> Demonstration:
        """Return a reference solution; raises ``ValueError`` for a task without one."""
        ...
