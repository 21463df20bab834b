"""What a tool returns, as a JSON schema that is read off results, and as an outline that a model reads.

Source: "Chain of Tools: Large Language Model is an Automatic Multi-tool Learner" (21), its probed response schemas.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["induced", "outline", "typed"]

_KINDS: Mapping[type, str] = {
    bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null",
}  # fmt: skip
_PYTHON: Mapping[str, str] = {
    "array": "list", "boolean": "bool", "integer": "int", "null": "NoneType", "number": "float", "object": "dict",
    "string": "str",
}  # fmt: skip


def induced(*results: Any, first: bool = False) -> dict[str, Any]:
    """Return a JSON schema that fits every given result.

    Keys of objects are joined, and required are those that all of them have; elements of a list are joined likewise
    (with ``first``, as published, the first element stands for all). Where kinds differ the schema is an ``anyOf``.
    Raises ``ValueError`` without results, and ``TypeError`` for a value that is no JSON data.
    """
    if not results:
        raise ValueError("a schema is read off at least one result")
    objects = [result for result in results if isinstance(result, Mapping)]
    lists = [result for result in results if isinstance(result, list | tuple)]
    plain = [result for result in results if not isinstance(result, Mapping | list | tuple)]
    kinds: list[dict[str, Any]] = [{"type": kind} for kind in dict.fromkeys(map(_kind, plain))]
    if objects:
        kinds.append(_object(objects, first))
    if lists:
        items = [item for found in lists for item in (found[:1] if first else found)]
        kinds.append({"type": "array", **({"items": induced(*items, first=first)} if items else {})})
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def _kind(value: Any) -> str:
    if type(value) not in _KINDS:
        raise TypeError(f"a result holds a {type(value).__name__}, which is no JSON data")
    return _KINDS[type(value)]


def _object(objects: Sequence[Mapping[str, Any]], first: bool) -> dict[str, Any]:
    names = dict.fromkeys(name for one in objects for name in one)
    properties = {name: induced(*(one[name] for one in objects if name in one), first=first) for name in names}
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in names if all(name in one for one in objects)],
    }


def typed(schema: Mapping[str, Any]) -> Any:
    """Return a schema as data of its form: a type's name in Python's words in place of each value.

    A list has one element, or none where its elements are unknown; alternatives are joined by ``|``.
    """
    if "anyOf" in schema:
        said = (typed(part) for part in schema["anyOf"])
        return " | ".join(part if isinstance(part, str) else json.dumps(part) for part in said)
    kind = schema.get("type")
    if kind == "object":
        return {name: typed(part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [typed(schema["items"])] if schema.get("items") else []
    return _PYTHON.get(str(kind), "any")


def outline(schema: Mapping[str, Any], name: str = "result") -> str:
    """Return a schema as lines ``- name: type``, one tab per level; the element of a list is ``name[0]``."""
    return "\n".join(_lines(schema, name, 0))


def _lines(schema: Mapping[str, Any], name: str, depth: int) -> list[str]:
    kind = schema.get("type")
    parts: list[tuple[str, Mapping[str, Any]]] = []
    if kind == "object":
        parts = list(schema.get("properties", {}).items())
    elif kind == "array" and schema.get("items"):
        parts = [(f"{name}[0]", schema["items"])]
    word = _PYTHON.get(str(kind), "any") if "anyOf" not in schema else str(typed(schema))
    return ["\t" * depth + f"- {name}: {word}", *(line for key, part in parts for line in _lines(part, key, depth + 1))]
