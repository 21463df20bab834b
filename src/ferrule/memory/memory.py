"""What a memory is: two functions, one that recalls for a task and one that keeps an episode; and the controls.

``ferrule.memory.recall`` makes one of a library, ``ferrule.agents.remembering`` puts what it recalls before a model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from ferrule.core.flows import Flow
from ferrule.core.records import Message, Score, Task, Tool, Trajectory

__all__ = ["NOTE", "Keep", "Memory", "Played", "Recall", "Recalled", "forgetful", "frozen", "shown_in", "shuffled"]

NOTE = "memory"
"""Under which name ``Turn.notes`` holds the ids of the entries that the model was shown."""


class Played(Protocol):
    """What a memory keeps: an episode as drivers record it."""

    @property
    def task(self) -> Task:
        """The task."""
        ...

    @property
    def sample(self) -> int:
        """Which of several episodes of the task this is."""
        ...

    @property
    def trajectories(self) -> tuple[Trajectory, ...]:
        """All paths; the first one holds the answer."""
        ...


@dataclass(frozen=True)
class Recalled:
    """What is put before the model: a ``text``, ``tools`` beside those on offer, and the ``ids`` of the entries."""

    text: str = ""
    tools: tuple[Tool, ...] = ()
    ids: tuple[str, ...] = ()


Recall: TypeAlias = Callable[[Task, Sequence[Message]], "Flow[Recalled] | Recalled"]
"""Recalls for a task, given the messages of its episode so far (none at first); as a flow it may ask a model."""
Keep: TypeAlias = Callable[[Played, Sequence[Score]], None]
"""Keeps an episode that was scored, with one score for each path that was: the first is that of the answer."""


@dataclass(frozen=True)
class Memory:
    """Two functions: ``recall(task, messages)`` and ``keep(episode, scores)``.

    Where what is kept can be written down, ``state()`` returns it as JSON data and ``load(state)`` puts it back, which
    makes it a part of checkpoints; ``counts()`` are numbers for logs and reports.
    """

    recall: Recall
    keep: Keep
    state: Callable[[], Any] | None = None
    load: Callable[[Any], None] | None = None
    counts: Callable[[], Mapping[str, float]] | None = None


def shown_in(trajectory: Trajectory) -> tuple[str, ...]:
    """Return the ids of the entries that the model was shown along a path, each once, in order."""
    return tuple(dict.fromkeys(id for turn in trajectory.turns for id in turn.notes.get(NOTE, ())))


# ------------------------------------------------------------------------------------------------------------ controls


def _nothing(task: Task, messages: Sequence[Message]) -> Recalled:
    return Recalled()


def _unkept(episode: Played, scores: Sequence[Score]) -> None:
    return None


def forgetful() -> Memory:
    """Return the memory that recalls nothing and keeps nothing: the control without any."""
    return Memory(_nothing, _unkept)


def frozen(memory: Memory) -> Memory:
    """Return a memory that recalls as before and keeps nothing more: the control of what learning on the way adds."""
    return replace(memory, keep=_unkept)


def shuffled(memory: Memory, tasks: Iterable[Task], *, seed: int = 0) -> Memory:
    """Return a memory that recalls for every task what belongs to another one of ``tasks``.

    The control of whether it matters what is recalled: as much text, for the wrong task. Which task stands for which is
    drawn by the seed, and no task for itself. Raises ``ValueError`` for fewer than two tasks, and when it is asked
    about a task that is none of them.
    """
    known = {task.id: task for task in tasks}
    if len(known) < 2:
        raise ValueError(f"recall is shuffled among tasks, and {len(known)} is too few; the least is 2")
    order = random.Random(f"shuffled/{seed}").sample(list(known), len(known))
    others = dict(zip(order, [*order[1:], order[0]], strict=True))

    def recall(task: Task, messages: Sequence[Message]) -> Flow[Recalled] | Recalled:
        if task.id not in others:
            raise ValueError(f"task {task.id!r} is none of the {len(known)} that recall is shuffled among")
        return memory.recall(known[others[task.id]], messages)

    return replace(memory, recall=recall)
