"""Cells of known meaning: prompts, conversations, offered tools, images and labels of a row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ferrule.core.records import Image, Message, Tool, plain_text
from ferrule.worlds.messages import from_messages, marked_messages
from ferrule.worlds.parts import image_of

__all__ = ["Said", "asked", "cell", "conversation_of", "offered_of", "said"]

Row = Mapping[str, Any]
Said: TypeAlias = str | tuple[Message, ...]
"""A text that stands for itself, or messages that a chat template lays out."""


def cell(row: Row, fields: Mapping[str, str], meaning: str) -> Any:
    """Return the value of a meaning's column, None where the row has none."""
    return row.get(fields[meaning]) if meaning in fields else None


def _parsed(value: Any) -> Any:
    """Return the list or object that a JSON text holds, and any other value as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _entries(value: Any) -> list[Any] | None:
    """Return the entries of a conversation, also of one inside a list of its own or in a JSON text; else None."""
    value = _parsed(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if not isinstance(value, list) or not value or not all(isinstance(entry, Mapping) for entry in value):
        return None
    return value if any(key in value[0] for key in ("role", "from")) else None


def said(value: Any, tools: Sequence[Tool] = ()) -> Said:
    """Return a text, or the messages of a list; raises ``ValueError`` for anything else and for an empty one."""
    if (entries := _entries(value)) is not None:
        return from_messages(entries, tools)
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty, or a list of messages")
    return value


def asked(row: Row, fields: Mapping[str, str], tools: Sequence[Tool] = (), *, spoken: bool = False) -> Said:
    """Return the prompt of a row: a text, or messages where it says more than that or ``spoken`` asks for them.

    A text in the column ``input`` (or ``context``) follows the prompt on a line of its own; ``system``, ``history``
    (pairs of question and answer) and ``images`` make messages of it. Raises ``ValueError`` with the column's name.
    """
    value, extra = cell(row, fields, "prompt"), cell(row, fields, "input")
    images = _images(cell(row, fields, "images"))
    if (entries := _entries(value)) is not None:
        messages, _ = _filled(entries, tools, images)
        return _under(cell(row, fields, "system"), messages)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"the field {fields['prompt']!r} must be a text that is not empty, or a list of messages")
    text = f"{value}\n{extra}" if isinstance(extra, str) and extra.strip() else value
    system, history = cell(row, fields, "system"), cell(row, fields, "history")
    if not (spoken or system or history or images):
        return text
    return _under(system, (*_earlier(history), Message("user", (*images, text) if images else text)))


def conversation_of(
    row: Row, fields: Mapping[str, str], tools: Sequence[Tool] = ()
) -> tuple[tuple[Message, ...], tuple[bool, ...]]:
    """Return the messages of a row and for each whether it may be learned; see ``asked`` for ``system`` and images."""
    entries = _entries(cell(row, fields, "messages"))
    if entries is None:
        raise ValueError(f"the field {fields['messages']!r} must be a list of messages, each with a role")
    messages, marks = _filled(entries, tools, _images(cell(row, fields, "images")))
    spoken = _under(cell(row, fields, "system"), messages)
    return spoken, (*[True] * (len(spoken) - len(messages)), *marks)


def _filled(
    entries: Sequence[Any], tools: Sequence[Tool], images: Sequence[Image]
) -> tuple[tuple[Message, ...], tuple[bool, ...]]:
    """Read messages; images go to the parts that wait for them, or before the first question where there is none."""
    if not images or any("image" in kind for entry in entries for kind in _kinds(entry)):
        return marked_messages(entries, tools, images)
    messages, marks = marked_messages(entries, tools)
    place = next((i for i, message in enumerate(messages) if message.role == "user"), None)
    if place is None:
        raise ValueError("the row has images, and its messages no question of a user to put them before")
    content = messages[place].content
    parts = (content,) if isinstance(content, str) else content
    shown = replace(messages[place], content=(*images, *parts))
    return (*messages[:place], shown, *messages[place + 1 :]), marks


def _kinds(entry: Mapping[str, Any]) -> list[str]:
    """Return the types of a message's parts."""
    content = entry.get("content")
    return [str(part.get("type")) for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []


def _images(value: Any) -> tuple[Image, ...]:
    value = _parsed(value)
    if value is None:
        return ()
    return tuple(image_of(entry) for entry in (value if isinstance(value, list | tuple) else [value]))


def _under(system: Any, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Put a row's system text before messages, in front of the system message that they have."""
    if system is None or (isinstance(system, str) and not system.strip()):
        return messages
    if not isinstance(system, str):
        raise ValueError(f"the system text is a {type(system).__name__}, not a text")
    if messages and messages[0].role == "system":
        return (Message("system", f"{system}\n\n{plain_text(messages[0])}"), *messages[1:])
    return (Message("system", system), *messages)


def _earlier(history: Any) -> list[Message]:
    messages: list[Message] = []
    for pair in _parsed(history) or ():
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise ValueError("the history must be a list of pairs of texts: what was asked, and the answer")
        messages += [Message("user", pair[0]), Message("assistant", pair[1])]
    return messages


def offered_of(row: Row, fields: Mapping[str, str]) -> tuple[str | dict[str, Any], ...] | None:
    """Return the tools of a row, names or schemas (also as JSON texts); None where the row says nothing of tools."""
    value = _parsed(cell(row, fields, "tools"))
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    entries = [_parsed(entry) for entry in value] if isinstance(value, list | tuple) else [value]
    if isinstance(value, str) or not all(isinstance(entry, str | Mapping) for entry in entries):
        raise ValueError(f"the field {fields['tools']!r} must be a list of names or schemas of tools")
    for entry in entries:
        if isinstance(entry, Mapping):
            Tool.from_schema(entry)  # refuses what is not a schema
    return tuple(entry if isinstance(entry, str) else dict(entry) for entry in entries)
