"""Conversations as rows of ids, laid out exactly as a rollout would have laid them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ferrule.chat.renderer import Renderer, added
from ferrule.core.arrays import IntArray
from ferrule.core.records import Message, Tool, Trajectory
from ferrule.worlds.messages import from_messages

__all__ = ["Pair", "Row", "conversation", "from_messages", "pad", "trajectory_row"]


@dataclass(frozen=True)
class Row:
    """One sequence: token ``ids`` and the turn index of each (-1 where the model did not write it)."""

    ids: tuple[int, ...]
    turn: tuple[int, ...]
    label: bool = True


@dataclass(frozen=True)
class Pair:
    """A preferred and a rejected row of the same prompt."""

    chosen: Row
    rejected: Row


def conversation(
    messages: Sequence[Message],
    tools: Sequence[Tool],
    renderer: Renderer,
    encode: Callable[[str], Sequence[int]],
    *,
    last_only: bool = False,
    learned: Sequence[bool] = (),
) -> Row:
    """Return the row of a conversation; every assistant message is a turn, all other tokens are -1.

    A reply that ends in a stop string (a call) ends there and the end token is inserted by the framework, as in a
    rollout; other replies end with the end token, which the model writes itself. ``last_only`` trains the last turn
    only; ``learned`` says for each message whether it may be trained (all of the assistant where it is empty).
    """
    places = [i for i, message in enumerate(messages) if message.role == "assistant"]
    if not places or places[0] == 0:
        raise ValueError("a conversation needs a message before its first assistant message, and one to learn from")
    ids = list(encode(renderer.opening(messages[: places[0]], tools)))
    turn = [-1] * len(ids)
    for k, place in enumerate(places):
        text = renderer.reply(messages[place])
        closed = not text.endswith(tuple(renderer.codec.stop) or ("\0",))
        written = list(encode(text + renderer.end if closed else text))
        ids += written
        trained = (not last_only or place == places[-1]) and (not learned or learned[place])
        turn += [k if trained else -1] * len(written)
        if k + 1 < len(places):
            inserted = list(encode(added(renderer, text, messages[place + 1 : places[k + 1]], closed)))
            ids += inserted
            turn += [-1] * len(inserted)
    return Row(tuple(ids), tuple(turn))


def trajectory_row(trajectory: Trajectory) -> Row:
    """Return the row of a recorded trajectory (its ids as they were, never re-encoded)."""
    ids: list[int] = []
    turn: list[int] = []
    for k, t in enumerate(trajectory.turns):
        ids += [*t.given, *t.sampled]
        turn += [-1] * len(t.given) + [k] * len(t.sampled)
    return Row(tuple(ids), tuple(turn))


def pad(rows: Sequence[Row]) -> tuple[IntArray, IntArray]:
    """Right-pad rows to ``(ids_NT, turn_NT)``; padding is -1 in both."""
    width = max((len(row.ids) for row in rows), default=0)
    ids_NT = np.full((len(rows), width), -1, dtype=np.int64)
    turn_NT = np.full((len(rows), width), -1, dtype=np.int64)
    for i, row in enumerate(rows):
        ids_NT[i, : len(row.ids)] = row.ids
        turn_NT[i, : len(row.turn)] = row.turn
    return ids_NT, turn_NT
