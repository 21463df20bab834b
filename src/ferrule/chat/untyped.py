"""Values in forms that write text and JSON alike: JSON where it parses as JSON, else the text as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ferrule.chat.parsing import dump, parse_prefix
from ferrule.core.records import Tool

__all__ = ["as_text", "as_value", "safe", "text_kind", "written"]


def as_value(text: str) -> Any:
    """Return the JSON value that a text is, else the text."""
    start = len(text) - len(text.lstrip())
    read = parse_prefix(text, start)
    if read is None or text[read[1] :].strip() or read[0].problem or read[0].repairs:
        return text
    return read[0].value


def as_text(text: str, *marks: str) -> str:
    """Return what a parameter of type text holds: what was written, without the quotes that ``written`` adds."""
    value = as_value(text)
    return value if isinstance(value, str) and value != text and written(value, *marks) == text else text


def written(value: Any, *marks: str) -> str:
    """Write a value so that ``as_value`` reads it: text bare where it can be, other values as JSON.

    Text that holds ``</`` or one of the ``marks`` is written as JSON without them.
    """
    bare = isinstance(value, str) and "</" not in value and not any(mark in value for mark in marks)
    if bare and as_value(value) == value and isinstance(as_value(value), str):
        return str(value)
    return safe(value, *marks)


def safe(value: Any, *marks: str) -> str:
    """Write JSON that holds neither ``</`` nor the ``marks``, which may stand in its strings only."""
    text = dump(value, "</")
    for mark in marks:
        text = text.replace(mark, f"\\u{ord(mark[0]):04x}{mark[1:]}")
    return text


def text_kind(tool: Tool, name: str) -> Literal["text", "nullable", ""]:
    """Say whether a parameter is text, or text or null, however its schema says so; empty for anything else."""
    root = tool.parameters
    kinds = _kinds(root.get("properties", {}).get(name), root)
    if "string" not in kinds or kinds - {"string", "null"}:
        return ""
    return "nullable" if "null" in kinds else "text"


def _kinds(schema: Any, root: Mapping[str, Any], depth: int = 0) -> set[str]:
    """Return the names of the JSON types that fit a schema; ``any`` stands for what is not said."""
    if not isinstance(schema, Mapping) or depth > 8:
        return {"any"}
    if isinstance(schema.get("$ref"), str):
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target.get(step) if isinstance(target, Mapping) else None
        return _kinds(target, root, depth + 1)
    if parts := [*schema.get("anyOf", ()), *schema.get("oneOf", ())]:
        return {kind for part in parts for kind in _kinds(part, root, depth + 1)}
    kind = schema.get("type", "any")
    return {kind} if isinstance(kind, str) else set(kind)
