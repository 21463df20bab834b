"""Values in forms that write text and JSON alike: JSON where it parses as JSON, else the text as it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from ferrule.chat.parsing import dump, parse_prefix
from ferrule.core.records import Tool

__all__ = [
    "Kinds", "Pairs", "as_text", "as_value", "kinds_of", "pairs_from", "read_value", "safe", "text_kind",
    "write_value", "written",
]  # fmt: skip

Pairs: TypeAlias = tuple[tuple[str, str], ...]
"""Names of tools, each with one of a parameter."""
_NULLS = ("null", "None")
_PYTHON = {"True": True, "False": False, "None": None}


class Kinds(Protocol):
    """Which parameters are always text, which are text or null, and the rest."""

    @property
    def texts(self) -> Pairs:
        """Always text."""
        ...

    @property
    def nullable(self) -> Pairs:
        """Text or null."""
        ...

    @property
    def others(self) -> Pairs:
        """Anything else; ``True``, ``False`` and ``None`` are then read as Python writes them."""
        ...


def kinds_of(tools: Sequence[Tool]) -> dict[str, Any]:
    """Return the fields of ``Kinds`` for tools."""
    pairs = [(tool, key) for tool in tools for key in tool.parameters.get("properties", {})]
    fields = {"texts": "text", "nullable": "nullable", "others": ""}
    return {
        field: tuple((tool.name, key) for tool, key in pairs if text_kind(tool, key) == kind)
        for field, kind in fields.items()
    }


def pairs_from(given: Iterable[Iterable[Any]]) -> Pairs:
    """Return pairs as settings that were read from JSON bring them: as lists."""
    return tuple((str(tool), str(key)) for tool, key in given)


def write_value(kinds: Kinds, tool: str, key: str, value: Any, *marks: str) -> str:
    """Write the value of a parameter so that ``read_value`` reads it."""
    bare = isinstance(value, str) and "</" not in value and not any(mark in value for mark in marks)
    if (tool, key) in kinds.nullable and isinstance(value, str) and value.strip() in _NULLS:
        return dump(value)
    if bare and (tool, key) in (*kinds.texts, *kinds.nullable) and as_text(value) == value:
        return str(value)
    return written(value, *marks)


def read_value(kinds: Kinds, tool: str, key: str, inside: str, *marks: str) -> Any:
    """Return the value of a parameter from its text."""
    value = as_value(inside)
    if (tool, key) in kinds.nullable and inside.strip() in _NULLS:
        return None
    if (tool, key) in kinds.nullable and isinstance(value, str) and value.strip() in _NULLS:
        return value  # such a text is written in quotes, to tell it from null
    if (tool, key) in (*kinds.texts, *kinds.nullable):
        return as_text(inside, *marks)
    if (tool, key) in kinds.others and inside.strip() in _PYTHON:
        return _PYTHON[inside.strip()]
    return value


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
