"""Continuing from the middle of a recorded episode: its messages, its calls run again, and the beginning of a reply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ferrule.agents.flow import acted, answered, opening
from ferrule.core.flows import Ask, Flow, Session, ask, use
from ferrule.core.records import Answer, Call, Message, Reply, Task, Trajectory, Turn

__all__ = ["Prefix", "Resume", "prefix_of", "resumed", "rewritten"]


@dataclass(frozen=True)
class Prefix:
    """Where to continue: the messages so far, the calls that brought the world there, and how the next reply begins.

    ``prefill`` is a text that the reply begins with. ``begun`` are ids that it begins with, as they were sampled, and
    ``given`` all ids the model was fed before those: the first ``known`` of them up to the turn before, which the first
    ``fresh`` messages stand for. Without ``given`` the messages are all that is known. ``reply`` is a whole reply that
    nobody is asked for: its calls are run, and what follows them is asked for.
    """

    messages: tuple[Message, ...]
    calls: tuple[tuple[Call, ...], ...] = ()
    prefill: str = ""
    begun: tuple[int, ...] = ()
    given: tuple[int, ...] = ()
    known: int = 0
    fresh: int = 0
    reply: Message | None = None


def prefix_of(trajectory: Trajectory, turn: int, *, prefill: str = "", cut: int | None = None) -> Prefix:
    """Return the prefix that ends before the reply of turn ``turn`` (counted from 0), which begins with ``prefill``.

    With ``cut`` it ends inside that reply, after as many of the ids that were sampled: the model goes on from exactly
    the ids of the record. ``prefill`` is then the text that the recorded reply began with, if any. An episode that was
    itself a continuation keeps the calls and the ids of its prefix. Raises ``ValueError`` for a turn or a cut that
    does not exist, and for a cut where the record has no ids.
    """
    if not 0 <= turn < len(trajectory.turns):
        raise ValueError(f"turn {turn} does not exist; the trajectory has {len(trajectory.turns)}")
    before = _prefix(trajectory.task)
    calls = list(before.calls)
    if before.reply is not None and before.reply.calls:
        calls.append(before.reply.calls)
    for earlier in trajectory.turns[:turn]:
        # A refused call changed nothing, and may be one that the agent passed over.
        pairs = zip(earlier.reply.calls, earlier.observations, strict=False)
        ran = tuple(call for call, observation in pairs if observation.status != "refused")
        if ran:
            calls.append(ran)
    messages = _context(trajectory, turn)
    if cut is None:
        return Prefix(messages, tuple(calls), prefill)
    here, path = trajectory.turns[turn], _path(trajectory, turn)
    if not here.given:
        raise ValueError(f"turn {turn} was recorded without token ids; leave the cut out and go on from its text")
    if not 0 <= cut <= len(here.sampled):
        raise ValueError(f"cut {cut} does not exist; turn {turn} has {len(here.sampled)} sampled ids")
    if turn == 0 and before.given:  # what the reply was begun with is recorded as given: it belongs to the reply
        given = here.given[: len(here.given) - len(before.begun)]
        begun = (*before.begun, *here.sampled[:cut])
        so_far = replace(before, messages=messages, calls=tuple(calls), reply=None)
        return replace(so_far, begun=begun, given=given, prefill=prefill or before.prefill)
    known = tuple(i for turn in path[:-1] for i in (*turn.given, *turn.sampled))
    fresh = sum(len(turn.messages) + 1 for turn in path[:-1])
    given = (*known, *here.given)
    return Prefix(messages, tuple(calls), prefill, here.sampled[:cut], given, len(known), fresh)


def _path(trajectory: Trajectory, turn: int) -> list[Turn]:
    """Return the turns whose contexts a turn extends, the first of its segment first and itself last."""
    places = {turn.id: turn for turn in trajectory.turns}
    path = [trajectory.turns[turn]]
    while path[0].parent is not None:
        path.insert(0, places[path[0].parent])
    return path


def _context(trajectory: Trajectory, turn: int) -> tuple[Message, ...]:
    """Return the messages that the reply of a turn answers: along the turns whose contexts it extends."""
    *before, here = _path(trajectory, turn)
    return (*(message for turn in before for message in (*turn.messages, turn.reply)), *here.messages)


def _prefix(task: Task) -> Prefix:
    prefix = task.meta.get("prefix", Prefix(tuple(opening(task))))
    if isinstance(prefix, Prefix):
        return prefix
    return Prefix(**prefix)  # a task that was read from a file holds its fields


def resumed(task: Task, prefix: Prefix, *, label: str, world_seed: int | None = None) -> Task:
    """Return ``task`` as one that ``Resume`` continues.

    ``label`` sets its episodes apart from others of the task (it keeps the id, by which worlds know it), ``world_seed``
    is the seed of the episode it is taken from.
    """
    meta: dict[str, Any] = {**task.meta, "prefix": prefix, "pass": label}
    if world_seed is not None:
        meta["world_seed"] = world_seed
    return replace(task, meta=meta)


def rewritten(trajectory: Trajectory, turn: int, reply: Message, *, label: str, world_seed: int | None = None) -> Task:
    """Return the task of going on as if ``reply`` had been written in turn ``turn``, counted from 0.

    ``Resume`` runs the calls before that turn again, and those of ``reply``, and lets the policy go on. The ids up to
    the reply before that turn stay as they were sampled and fed. ``label`` and ``world_seed`` are those of ``resumed``.
    Raises ``ValueError`` for a turn that does not exist.
    """
    known = 0 <= turn < len(trajectory.turns) and bool(trajectory.turns[turn].given)
    prefix = prefix_of(trajectory, turn, cut=0 if known else None)
    prefix = replace(prefix, prefill="", begun=(), reply=reply)
    return resumed(trajectory.task, prefix, label=label, world_seed=world_seed)


@dataclass(frozen=True)
class Resume:
    """Go on from ``task.meta["prefix"]`` for at most ``rounds`` replies; without a prefix, start at the prompt.

    The calls of the prefix are run again before the first reply, outside the record, so that world, budgets and
    interpreters stand where they stood. What stands in the prefix is never trained on, sampled ids that the reply was
    begun with included. Such ids need a policy that goes on from ids. An episode that ends with calls
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
        messages = list(prefix.messages)
        if prefix.reply is not None:
            if not prefix.reply.calls:
                return answered(Reply(prefix.reply), self.answer)
            answer = yield from acted(messages, prefix.reply)
            if answer is not None:
                return answer
        request = Ask(
            tuple(messages),
            prefill=prefix.prefill,
            begun=prefix.begun,
            context=prefix.given[: prefix.known],
            fresh=prefix.fresh,
        )
        for number in range(self.rounds):
            request = replace(request, tools=session.tools, stop=self.stop, max_tokens=self.max_tokens, role=self.role)
            (reply,) = yield from ask(request)
            fed = reply.given if prefix.reply is None else reply.given[: len(prefix.given)]
            if not number and prefix.given and fed != (*prefix.given, *prefix.begun):
                raise ValueError("the policy lays the messages out in other ids than the record has; go on with the "
                                 "policy, the tools and the prefill of the recorded episode")  # fmt: skip
            if not reply.message.calls:
                return answered(reply, self.answer)
            answer = yield from acted(messages, reply.message)
            if answer is not None:
                return answer
            request = Ask(tuple(messages))
        return None
