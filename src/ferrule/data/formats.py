"""Conversations as rows of ids, laid out exactly as a rollout would have laid them out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ferrule.core.arrays import IntArray, nearest
from ferrule.core.records import Call, Image, Message, Part, Tool, Trajectory

__all__ = ["Pair", "Row", "Writes", "conversation", "from_messages", "pad", "trajectory_row"]


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


class Writes(Protocol):
    """What turns messages into text: the part of a renderer that data needs."""

    @property
    def codec(self) -> Any:
        """The codec that writes assistant messages."""
        ...

    @property
    def end(self) -> str:
        """Text of the end-of-turn token."""
        ...

    def opening(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """Whole prompt, assistant header included."""
        ...

    def extension(self, messages: Sequence[Message], closed: bool) -> str:
        """Text that follows a reply."""
        ...


def conversation(
    messages: Sequence[Message],
    tools: Sequence[Tool],
    renderer: Writes,
    encode: Callable[[str], Sequence[int]],
    *,
    last_only: bool = False,
) -> Row:
    """Return the row of a conversation; every assistant message is a turn, all other tokens are -1.

    A reply that ends in a stop string (a call) ends there and the end token is inserted by the framework, as in a
    rollout; other replies end with the end token, which the model writes itself. ``last_only`` trains the last turn
    only.
    """
    places = [i for i, message in enumerate(messages) if message.role == "assistant"]
    if not places or places[0] == 0:
        raise ValueError("a conversation needs a message before its first assistant message, and one to learn from")
    ids = list(encode(renderer.opening(messages[: places[0]], tools)))
    turn = [-1] * len(ids)
    for k, place in enumerate(places):
        text = renderer.codec.write(messages[place])
        closed = not text.endswith(tuple(renderer.codec.stop) or ("\0",))
        written = list(encode(text + renderer.end if closed else text))
        ids += written
        turn += [k if not last_only or place == places[-1] else -1] * len(written)
        if k + 1 < len(places):
            inserted = list(encode(renderer.extension(messages[place + 1 : places[k + 1]], closed)))
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


_FIELDS = ("role", "content", "tool_calls", "name", "tool_call_id")


def from_messages(rows: Iterable[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Read the Hugging Face ``messages`` column (OpenAI tool-call form); unknown fields and roles are refused."""
    messages = []
    for place, row in enumerate(rows):
        for key in row:
            if key not in _FIELDS:
                raise ValueError(f"message {place}: unknown field {key!r}; {nearest(key, _FIELDS)}")
        role = row.get("role")
        if role not in ("system", "user", "assistant", "tool"):
            raise ValueError(f"message {place}: role is {role!r}; valid: system, user, assistant, tool")
        calls = []
        for number, entry in enumerate(row.get("tool_calls") or ()):
            calls.append(_call(entry, number, f"message {place}, call {number}"))
        content = _content(row.get("content"), f"message {place}")
        messages.append(Message(role, content, tuple(calls), row.get("name") or "", row.get("tool_call_id") or ""))
    return tuple(messages)


def _call(entry: Mapping[str, Any], number: int, where: str) -> Call:
    function = entry.get("function", entry)
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError as error:
            raise ValueError(f"{where}: arguments are not JSON: {error}") from None
    if not isinstance(arguments, Mapping):
        raise ValueError(f"{where}: arguments are a {type(arguments).__name__}, not an object")
    if not function.get("name"):
        raise ValueError(f"{where}: no name")
    return Call(function["name"], arguments, id=entry.get("id") or f"call_{number}")


def _content(content: Any, where: str) -> str | tuple[Part, ...]:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, Sequence):
        raise ValueError(f"{where}: content is of type {type(content).__name__}; it must be text or a list of parts")
    parts: list[Part] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind == "text":
            parts.append(str(part["text"]))
        elif kind == "image_url":
            parts.append(Image(part["image_url"]["url"]))
        else:
            raise ValueError(f"{where}: unknown part type {kind!r}; valid: text, image_url")
    return tuple(parts)
