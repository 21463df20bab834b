"""Any value as one line of JSON that reads back, whatever tools and models left in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ferrule.tools.text import clean

__all__ = ["line", "plain"]

_DEPTH = 100
_BITS = 10_000  # an integer beyond this (3,000 digits) is written as text; JSON readers refuse 4,300 digits


def line(value: Any) -> bytes:
    """Return ``value`` as one line of JSON without a line end; what JSON cannot hold is written as text."""
    from pydantic_core import from_json, to_json

    try:
        written = to_json(value, inf_nan_mode="constants", fallback=repr, bytes_mode="utf8")
        from_json(written)  # very deep data and very long numbers can be written but not read
    except ValueError:
        written = to_json(plain(value), inf_nan_mode="constants")
    return written


def plain(value: Any, depth: int = 0, within: frozenset[int] = frozenset()) -> Any:
    """Return ``value`` as JSON data: strings without half surrogates, no circles, no depth beyond 100."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int):
        return int(value) if value.bit_length() < _BITS else hex(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    if depth > _DEPTH or id(value) in within:
        return "..."
    deeper = (depth + 1, within | {id(value)})
    if isinstance(value, Mapping):
        return {_key(key): plain(inner, *deeper) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner, *deeper) for inner in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), *deeper) for field in fields(value)}
    return _shown(value)


def _key(key: Any) -> str:
    return clean(key) if isinstance(key, str) else _shown(key)


def _shown(value: Any) -> str:
    try:
        return clean(repr(value))
    except Exception as error:
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
