"""Values in forms that write text and JSON alike: JSON where it parses as JSON, else the text as it stands."""

from __future__ import annotations

from typing import Any

from ferrule.chat.parsing import dump, parse_prefix

__all__ = ["as_text", "as_value", "safe", "written"]


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
