"""Conversations as data sets write them (OpenAI, Hugging Face and ShareGPT forms), read as messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ferrule.chat.objects import arguments_in
from ferrule.chat.scan import THINK_CLOSE, THINK_OPEN
from ferrule.core.arrays import nearest
from ferrule.core.described import without_nulls
from ferrule.core.records import Call, Message, Role, Tool
from ferrule.tools.schema import problem, resolve
from ferrule.worlds.parts import content_of

__all__ = ["ROLES", "from_messages", "marked_messages"]

ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant",
    "function_call": "assistant", "tool_call": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "function_response": "tool", "tool_response": "tool",
    "ipython": "tool",
}  # fmt: skip
"""What each name of a role stands for."""
_FIELDS = (
    "role", "content", "tool_calls", "name", "tool_call_id", "function_call", "reasoning_content", "reasoning",
    "thinking", "refusal", "weight", "from", "value",
)  # fmt: skip
_THOUGHT = ("reasoning_content", "reasoning", "thinking")

Entry = Mapping[str, Any]


def from_messages(
    rows: Iterable[Entry], tools: Sequence[Tool] = (), images: Iterable[Any] | None = None
) -> tuple[Message, ...]:
    """Read messages in the form of OpenAI, Hugging Face (``role``, ``content``) or ShareGPT (``from``, ``value``).

    ``developer`` is a system message, and joined to one before it; ``reasoning_content`` (``reasoning``, ``thinking``)
    becomes a think block before the content, which renderers write in the marks of a family; ``function_call`` is a
    call, and ``refusal`` the content where there is no other. ``images`` fill image parts without a source, in order.
    Keys that are null say nothing: ``datasets`` puts null where another row has a key. So it does in arguments, of
    which nulls go unless the tool of that name in ``tools`` takes them; in arguments that are a JSON text they stay.
    Raises ``ValueError`` with the message's place for unknown fields, roles and parts.
    """
    return marked_messages(rows, tools, images)[0]


def marked_messages(
    rows: Iterable[Entry], tools: Sequence[Tool] = (), images: Iterable[Any] | None = None
) -> tuple[tuple[Message, ...], tuple[bool, ...]]:
    """Return the messages of ``from_messages``, and for each whether it may be learned (``weight`` is not 0)."""
    messages: list[Message] = []
    marks: list[bool] = []
    left = None if images is None else iter(images)
    for place, row in enumerate(rows):
        message, mark = _message(row, f"message {place}", {tool.name: tool for tool in tools}, left)
        if message.role == "system" and len(messages) == 1 and messages[0].role == "system":
            messages[0] = _joined(messages[0], message)
            continue
        messages.append(message)
        marks.append(mark)
    if left is not None and (over := sum(1 for _ in left)):
        raise ValueError(f"{over} images more than the messages have places for")
    return tuple(messages), tuple(marks)


def _message(row: Any, where: str, tools: Mapping[str, Tool], images: Iterator[Any] | None) -> tuple[Message, bool]:
    if not isinstance(row, Mapping):
        raise ValueError(f"{where}: it is a {type(row).__name__}, not an object with role and content")
    given = {key: value for key, value in row.items() if value is not None and value != []}
    for key in given:
        if key not in _FIELDS:
            raise ValueError(f"{where}: unknown field {key!r}; {nearest(key, _FIELDS)}")
    named = given.get("role", given.get("from"))
    role = ROLES.get(named) if isinstance(named, str) else None
    if role is None:
        raise ValueError(f"{where}: role is {named!r}; valid: {', '.join(ROLES)}")
    content = content_of(given.get("content", given.get("value")), where, images)
    calls: list[Call] = []
    if named in ("function_call", "tool_call"):
        calls, content = _calls(_parsed(content, where), where, tools), ""
    calls += _calls(_parsed(given.get("tool_calls", ()), where), where, tools)
    if "function_call" in given:
        calls += _calls([given["function_call"]], where, tools)
    if "refusal" in given:
        content = content or str(given["refusal"])
    thought = next((str(given[key]) for key in _THOUGHT if given.get(key)), "")
    if thought:
        if role != "assistant":
            raise ValueError(f"{where}: a message of role {named!r} has reasoning, which only the assistant writes")
        block = f"{THINK_OPEN}\n{thought.strip()}\n{THINK_CLOSE}\n\n"
        content = f"{block}{content}" if isinstance(content, str) else (block, *content)
    weight = given.get("weight", 1)
    if weight not in (0, 1):
        raise ValueError(f"{where}: weight is {weight!r}; valid: 0 (read, not learned) and 1")
    if calls and role != "assistant":
        raise ValueError(f"{where}: a message of role {named!r} has calls, which only the assistant makes")
    answers = str(given.get("tool_call_id", ""))
    return Message(role, content, tuple(calls), str(given.get("name", "")), answers), bool(weight)


def _joined(first: Message, second: Message) -> Message:
    """One system message of two in a row, which most templates do not take."""
    texts = [message.content for message in (first, second)]
    if all(isinstance(text, str) for text in texts):
        return Message("system", "\n\n".join(str(text) for text in texts if text))
    parts = [part for text in texts for part in ((text,) if isinstance(text, str) else text)]
    return Message("system", tuple(parts))


def _parsed(value: Any, where: str) -> Sequence[Any]:
    """Return calls as a list; a JSON text of them is read first."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"{where}: the calls are not JSON: {error}") from None
    if isinstance(value, Mapping):
        return [value]
    if not isinstance(value, Sequence):
        raise ValueError(f"{where}: the calls are a {type(value).__name__}, not a list")
    return value


def _calls(entries: Sequence[Any], where: str, tools: Mapping[str, Tool]) -> list[Call]:
    return [_call(entry, i, f"{where}, call {i}", tools) for i, entry in enumerate(entries)]


def _call(entry: Any, number: int, where: str, tools: Mapping[str, Tool]) -> Call:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: it is a {type(entry).__name__}, not an object with name and arguments")
    function = entry.get("function") or entry
    name = function.get("name") if isinstance(function, Mapping) else function
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where}: no name")
    arguments, misplaced = arguments_in(entry, function if isinstance(function, Mapping) else entry)
    if misplaced:
        raise ValueError(f"{where}: {misplaced}")
    arguments = {} if arguments is None else arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except ValueError as error:
            raise ValueError(f"{where}: arguments are not JSON: {error}") from None
        arguments = {} if arguments is None else arguments
    elif isinstance(arguments, Mapping):
        tool = tools.get(name)
        arguments = without_nulls(arguments) if tool is None else _fitting(arguments, tool.parameters, tool.parameters)
    if not isinstance(arguments, Mapping):
        raise ValueError(f"{where}: arguments are a {type(arguments).__name__}, not an object")
    return Call(name, arguments, id=str(entry.get("call_id") or entry.get("id") or f"call_{number}"))


def _fitting(value: Any, schema: Any, root: Mapping[str, Any]) -> Any:
    """Return a value without the nulls of objects for which ``schema`` has no place."""
    schema = resolve(schema, root)
    schema = schema if isinstance(schema, Mapping) else {}
    if isinstance(value, Mapping):
        known = schema.get("properties", {})
        extra = schema.get("additionalProperties", False)
        return {
            str(key): _fitting(item, known.get(key, extra), root)
            for key, item in value.items()
            if item is not None or ((key in known or extra) and not problem(None, known.get(key, extra), root))
        }
    if isinstance(value, list | tuple):
        return [_fitting(item, schema.get("items", {}), root) for item in value]
    return value
