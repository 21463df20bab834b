"""Going on from the middle of a recorded episode: its messages again, its calls made again, a reply begun again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ferrule.agents.flow import acted, answered, opening
from ferrule.core.records import Answer, Ask, Call, Flow, Message, Session, Task, Trajectory, ask, use

__all__ = ["Prefix", "Resume", "prefix_of", "resumed"]


@dataclass(frozen=True)
class Prefix:
    """Where to go on: the messages so far, the calls that brought the world there, and how the next reply begins."""

    messages: tuple[Message, ...]
    calls: tuple[tuple[Call, ...], ...] = ()
    prefill: str = ""


def prefix_of(trajectory: Trajectory, turn: int, *, prefill: str = "") -> Prefix:
    """Return the prefix that ends before the reply of turn ``turn`` (counted from 0), which begins with ``prefill``."""
    if not 0 <= turn < len(trajectory.turns):
        raise ValueError(f"turn {turn} does not exist; the trajectory has {len(trajectory.turns)}")
    calls = []
    for earlier in trajectory.turns[:turn]:
        # A refused call changed nothing, and may be one that the agent passed over.
        pairs = zip(earlier.reply.calls, earlier.observations, strict=False)
        ran = tuple(call for call, observation in pairs if observation.status != "refused")
        if ran:
            calls.append(ran)
    return Prefix(_context(trajectory, turn), tuple(calls), prefill)


def _context(trajectory: Trajectory, turn: int) -> tuple[Message, ...]:
    """Return the messages that the reply of a turn answers: along the turns whose contexts it extends."""
    places = {own.id: k for k, own in enumerate(trajectory.turns)}
    messages: tuple[Message, ...] = ()
    place: int | None = turn
    while place is not None:
        own = trajectory.turns[place]
        messages = (*own.messages, *((own.reply,) if place != turn else ()), *messages)
        place = places[own.parent] if own.parent is not None else None
    return messages


def _prefix(task: Task) -> Prefix:
    found = task.meta.get("prefix", Prefix(tuple(opening(task))))
    if isinstance(found, Prefix):
        return found
    return Prefix(**found)  # a task that was read from a file holds its fields


def resumed(task: Task, prefix: Prefix, *, label: str, world_seed: int | None = None) -> Task:
    """Return ``task`` as one that ``Resume`` goes on with.

    ``label`` sets its episodes apart from others of the task (it keeps the id, by which worlds know it), ``world_seed``
    is the seed of the episode it is taken from.
    """
    meta: dict[str, Any] = {**task.meta, "prefix": prefix, "pass": label}
    if world_seed is not None:
        meta["world_seed"] = world_seed
    return replace(task, meta=meta)


@dataclass(frozen=True)
class Resume:
    """Go on from ``task.meta["prefix"]`` for at most ``rounds`` replies; without a prefix, start at the prompt.

    The calls of the prefix are made again before the first reply, outside the record, so that world, budgets and
    interpreters stand where they stood. What stands in the prefix is never trained on. An episode that ends with calls
    (one think, act, observe loop) has no answer; ``answer`` reads one from a reply without calls (None: its text).
    ``role`` names the policy that is asked when there are several.
    """

    rounds: int = 1
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    answer: Callable[[Message], Answer] | None = None
    role: str = "solver"

    def __post_init__(self) -> None:
        """Refuse a continuation without a reply."""
        if self.rounds < 1:
            raise ValueError(f"Resume.rounds is {self.rounds}; the least is 1")

    def __call__(self, task: Task, session: Session) -> Flow[Answer]:
        """Play one continuation."""
        prefix = _prefix(task)
        for calls in prefix.calls:
            yield from use(*calls, session=session)
        messages, prefill = list(prefix.messages), prefix.prefill
        for _ in range(self.rounds):
            request = Ask(
                tuple(messages),
                tools=session.tools,
                stop=self.stop,
                max_tokens=self.max_tokens,
                prefill=prefill,
                role=self.role,
            )
            (reply,) = yield from ask(request)
            prefill = ""
            if not reply.message.calls:
                return answered(reply, self.answer)
            answer = yield from acted(messages, reply.message)
            if answer is not None:
                return answer
        return None
