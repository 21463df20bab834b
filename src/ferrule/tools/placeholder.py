"""A value that fits a JSON schema, for runs in which no tool is called."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ferrule.tools.schema import merged, resolve, without

__all__ = ["placeholder"]

_DEPTH = 16
_FORMATS = {
    "date": "2000-01-01", "date-time": "2000-01-01T00:00:00Z", "time": "00:00:00Z", "duration": "PT0S",
    "email": "user@example.com", "uri": "https://example.com", "uuid": "00000000-0000-0000-0000-000000000000",
    "ipv4": "192.0.2.1", "ipv6": "2001:db8::1", "hostname": "example.com",
}  # fmt: skip


def placeholder(schema: Any, root: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    """Return a small value that fits ``schema``: its constant, default, example or first choice, else the smallest one.

    Covers what ``ferrule.tools.schema.problem`` checks, and common formats of texts; a ``pattern`` is not looked at.
    ``root`` is where ``$ref`` pointers lead (the schema itself when None).
    """
    root = schema if root is None and isinstance(schema, Mapping) else root or {}
    schema = resolve(schema, root)
    if not isinstance(schema, Mapping) or depth > _DEPTH:
        return None
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("enum", "examples"):
        if schema.get(key):
            return schema[key][0]
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return placeholder({**without(schema, key), **resolve(schema[key][0], root)}, root, depth + 1)
    if schema.get("allOf"):
        return placeholder(merged(schema, root), root, depth + 1)
    return _by_kind(schema, root, depth)


def _by_kind(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list | tuple):
        kind = next((k for k in kind if k != "null"), "null")
    if kind == "object" or (kind is None and "properties" in schema):
        known = schema.get("properties", {})
        return {name: placeholder(known.get(name, {}), root, depth + 1) for name in schema.get("required", ())}
    if kind == "array":
        return [placeholder(schema.get("items", {}), root, depth + 1) for _ in range(schema.get("minItems", 0))]
    if kind == "string":
        text = _FORMATS.get(schema.get("format", ""), "text")
        return text.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
    if kind in ("integer", "number"):
        return _number(schema, whole=kind == "integer")
    return False if kind == "boolean" else None


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    """The number nearest to 0 within the bounds."""
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    if whole:
        least = max(low if low == -math.inf else math.ceil(low), above if above == -math.inf else math.floor(above) + 1)
        most = min(high if high == math.inf else math.floor(high), below if below == math.inf else math.ceil(below) - 1)
        return int(min(max(0, least), most))
    least, most = max(low, above), min(high, below)
    if least <= 0 <= most and not (above == 0 or below == 0):
        return 0
    if not math.isfinite(least) or not math.isfinite(most):
        edge, step = (least, 1.0) if math.isfinite(least) else (most, -1.0)
        return float(edge + step if edge in (above, below) else edge)
    return float((least + most) / 2)
