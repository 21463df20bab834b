"""Schemas of tools in the forms that data sets write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["described", "without_nulls"]

_PARAMETERS = ("parameters", "inputSchema", "input_schema")
_KINDS = {
    "any": "", "arr": "array", "array": "array", "bool": "boolean", "boolean": "boolean", "dict": "object",
    "double": "number", "float": "number", "hashmap": "object", "int": "integer", "integer": "integer",
    "list": "array", "long": "integer", "none": "null", "nonetype": "null", "null": "null", "number": "number",
    "object": "object", "set": "array", "str": "string", "string": "string", "tuple": "array",
}  # fmt: skip
"""JSON schema's name of a type for each name that data sets use; "" for any type."""
_KEYWORDS = {"properties", "$defs", "$ref", "additionalProperties"}
_INNER = ("items", "additionalProperties", "not")
_LISTED = ("anyOf", "oneOf", "allOf")


def described(schema: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Return name, description and parameters of a tool's schema.

    Read are the OpenAI form (``{"type": "function", "function": {...}}``), the same without its wrapper,
    ``inputSchema`` (MCP) and ``input_schema`` for ``parameters``, and parameters that are listed by name without
    ``properties``, those with a default being optional. Nulls, which ``datasets`` puts where another row has a key,
    are left out; types in Python's words (``dict``, ``float``, ``List[int]``) become those of JSON schema. Raises
    ``ValueError`` otherwise.
    """
    given = schema.get("function") if isinstance(schema, Mapping) else None
    inner = given if isinstance(given, Mapping) else schema
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str) or not inner["name"].strip():
        raise ValueError(f"a tool's schema is an object with a name, a description and parameters, not {schema!r:.80}")
    key = next((key for key in _PARAMETERS if inner.get(key) is not None), "")
    parameters = without_nulls(inner[key]) if key else {}
    if not isinstance(parameters, dict):
        raise ValueError(f"the {key} of the tool {inner['name']!r} are a {type(parameters).__name__}, not an object")
    description = inner.get("description") or ""
    return inner["name"].strip(), str(description), _mended(_as_object(parameters))


def without_nulls(value: Any) -> Any:
    """Return JSON data without the keys of objects whose value is null; entries of lists stay."""
    if isinstance(value, Mapping):
        return {str(key): without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list | tuple) else value


def _as_object(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object; parameters that stand by name alone become its properties."""
    listed = parameters and all(isinstance(entry, dict) for entry in parameters.values())
    if not listed or _KEYWORDS & set(parameters):
        return {"type": "object", "properties": {}, **parameters}
    needed = [n for n, e in parameters.items() if "default" not in e and "optional" not in str(e.get("type")).lower()]
    return {"type": "object", "properties": parameters, "required": needed}


def _mended(schema: Any) -> Any:
    """Return a schema whose types have the names that JSON schema gives them."""
    if not isinstance(schema, Mapping):
        return schema
    mended = dict(schema)
    if "type" in mended:
        kind = _kind(mended.pop("type"))
        mended = {**({"type": kind} if kind else {}), **mended}
    for key in ("properties", "$defs"):
        if isinstance(mended.get(key), Mapping):
            mended[key] = {name: _mended(entry) for name, entry in mended[key].items()}
    for key in _INNER:
        if key in mended:
            mended[key] = _mended(mended[key])
    for key in _LISTED:
        if isinstance(mended.get(key), list):
            mended[key] = [_mended(entry) for entry in mended[key]]
    return mended


def _kind(name: Any) -> Any:
    """Return the type that a text or a list of texts names; "" where it is not known, which restricts nothing."""
    if isinstance(name, list):
        kinds = [_kind(entry) for entry in name]
        return kinds if all(kinds) else ""
    head = re.match(r"\s*([A-Za-z]*)", str(name))
    return _KINDS.get(head[1].lower(), "") if head else ""
