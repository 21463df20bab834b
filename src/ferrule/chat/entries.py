"""Messages in the form of OpenAI-compatible chat servers, which data sets use as well."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ferrule.core.records import Image, Message

__all__ = ["message_content", "native_messages"]


def _image_url(image: Image) -> str:
    if image.source.startswith(("data:", "http://", "https://")):
        return image.source
    return f"data:{image.media};base64,{base64.b64encode(Path(image.source).read_bytes()).decode()}"


def message_content(message: Message) -> str | list[dict[str, Any]]:
    """Return the content of a message: a text, or its parts with images as addresses or data."""
    if isinstance(message.content, str):
        return message.content
    parts: list[dict[str, Any]] = []
    for part in message.content:
        if isinstance(part, str):
            parts.append({"type": "text", "text": part})
        else:
            parts.append({"type": "image_url", "image_url": {"url": _image_url(part)}})
    return parts


def native_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages with calls as ``tool_calls`` and results as role ``tool``, tied by ids.

    Calls without an id get one, and a result without one answers the oldest call that waits. Arguments are always
    valid JSON, because servers parse the history: what a malformed call held is in its observation.
    """
    converted: list[dict[str, Any]] = []
    waiting: list[str] = []
    for i, message in enumerate(messages):
        if message.role == "tool":
            identity = message.call_id or (waiting[0] if waiting else f"call_{i}")
            if identity in waiting:
                waiting.remove(identity)
            converted.append({"role": "tool", "tool_call_id": identity, "content": message_content(message)})
            continue
        entry: dict[str, Any] = {"role": message.role, "content": message_content(message)}
        if message.calls:
            waiting = [call.id or f"call_{i}_{j}" for j, call in enumerate(message.calls)]
            entry["tool_calls"] = [
                {
                    "id": identity,
                    "type": "function",
                    "function": {"name": call.name or "unreadable", "arguments": json.dumps(dict(call.arguments))},
                }
                for identity, call in zip(waiting, message.calls, strict=True)
            ]
        converted.append(entry)
    return converted
