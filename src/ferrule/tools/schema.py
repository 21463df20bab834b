"""JSON schemas of tools: forms for models and servers, and checking and repairing arguments by schema alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from ferrule.chat.parsing import Number
from ferrule.core.arrays import nearest
from ferrule.core.records import Tool

__all__ = [
    "as_openai",
    "candidates",
    "heading",
    "json_differs",
    "merged",
    "problem",
    "resolve",
    "signature",
    "type_text",
    "unknown_key",
    "untitled",
    "violations",
    "without",
]

Schema = Mapping[str, Any]
_PLAIN = {"integer": "int", "number": "float", "string": "str", "boolean": "bool", "null": "None"}


def untitled(schema: Any) -> Any:
    """Return a schema without the ``title`` keys that pydantic adds (a property named ``title`` stays)."""
    if isinstance(schema, list):
        return [untitled(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept = {}
    for key, value in schema.items():
        if key == "title" and isinstance(value, str):
            continue
        if key in ("properties", "$defs") and isinstance(value, Mapping):
            kept[key] = {name: untitled(entry) for name, entry in value.items()}
        else:
            kept[key] = value if key in ("default", "enum", "const", "examples") else untitled(value)
    return kept


def as_openai(tool: Tool) -> dict[str, Any]:
    """Return the tool in the form that chat templates and OpenAI-compatible servers read."""
    parameters = dict(tool.parameters) or {"type": "object", "properties": {}}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def signature(tool: Tool) -> str:
    """Return one line ``name(a: int, b: str = "x"): description`` (the first line of the description)."""
    lines = tool.description.strip().splitlines()
    return f"{heading(tool)}: {lines[0]}" if lines else heading(tool)


def heading(tool: Tool) -> str:
    """Return ``name(a: int, b: str = "x")``; ``= ...`` marks an optional parameter without a known default."""
    required = set(tool.parameters.get("required", ()))
    parts = []
    for name, entry in tool.parameters.get("properties", {}).items():
        part = f"{name}: {type_text(entry, tool.parameters)}"
        if "default" in entry:
            part += f" = {_literal(entry['default'])}"
        elif name not in required:
            part += " = ..."
        parts.append(part)
    return f"{tool.name}({', '.join(parts)})"


def _literal(value: Any) -> str:
    """Write a JSON value the way Python source would, with double quotes."""
    if value is None or isinstance(value, bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def type_text(schema: Any, root: Schema, depth: int = 0) -> str:
    """Return a schema's type in Python notation, for example ``list[int]`` or ``"a" | "b"``."""
    schema = resolve(schema, root)
    if not isinstance(schema, Mapping) or depth > 4:
        return "any"
    if "enum" in schema:
        return " | ".join(_literal(value) for value in schema["enum"])
    if "const" in schema:
        return _literal(schema["const"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(dict.fromkeys(type_text(part, root, depth + 1) for part in schema[key]))
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(type_text({**schema, "type": name}, root, depth + 1) for name in kind)
    if kind == "array":
        return f"list[{type_text(schema['items'], root, depth + 1)}]" if schema.get("items") else "list"
    if kind == "object":
        if schema.get("properties"):
            inner = (f"{key}: {type_text(entry, root, depth + 1)}" for key, entry in schema["properties"].items())
            return "{" + ", ".join(inner) + "}"
        extra = schema.get("additionalProperties")
        return f"dict[str, {type_text(extra, root, depth + 1)}]" if isinstance(extra, Mapping) and extra else "dict"
    return _PLAIN.get(str(kind), "any")


def resolve(schema: Any, root: Schema) -> Any:
    """Follow ``$ref`` pointers of the form ``#/a/b`` inside ``root``; anything else is returned as it is.

    ``~1`` and ``~0`` in a pointer stand for ``/`` and ``~`` (RFC 6901), and percent signs are read as in addresses.
    """
    for _ in range(16):
        if not (isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str)):
            return schema
        target: Any = root
        for escaped in schema["$ref"].removeprefix("#/").split("/"):
            step = unquote(escaped).replace("~1", "/").replace("~0", "~")
            target = target.get(step) if isinstance(target, Mapping) else None
        schema = target if target is not None else {}
    return {}


def without(schema: Schema, key: str) -> dict[str, Any]:
    """Return a schema without one of its keywords."""
    return {name: value for name, value in schema.items() if name != key}


def merged(schema: Schema, root: Schema) -> dict[str, Any]:
    """Return one schema that asks for all parts of its ``allOf``: later keys win, properties and required add up."""
    whole = without(schema, "allOf")
    for part in schema["allOf"]:
        resolved = resolve(part, root)
        properties = {**whole.get("properties", {}), **resolved.get("properties", {})}
        required = [*whole.get("required", ()), *resolved.get("required", ())]
        summed = {"properties": properties, "required": required}
        whole = {**whole, **resolved, **{key: value for key, value in summed.items() if value}}
    return whole


_IS: dict[str, Callable[[Any], bool]] = {
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "array": lambda v: isinstance(v, list | tuple),
    "object": lambda v: isinstance(v, Mapping),
}


def _kinds(schema: Schema) -> tuple[str, ...]:
    kind = schema.get("type", ())
    return (kind,) if isinstance(kind, str) else tuple(kind)


def problem(value: Any, schema: Any, root: Schema, depth: int = 0) -> str:
    """Return why ``value`` does not fit ``schema``, or an empty string when it does.

    Covers type, enum, const, anyOf, oneOf (read as anyOf), allOf, items, properties, required, additionalProperties
    and the size bounds; other keywords do not restrict.
    """
    schema = resolve(schema, root)
    if not isinstance(schema, Mapping) or depth > 32:
        return "" if schema is not False else "no value is allowed"
    kinds = _kinds(schema)
    if kinds and not any(_IS[kind](value) for kind in kinds if kind in _IS):
        return f"should be {type_text(schema, root)}, not {type(value).__name__}"
    # Booleans equal 0 and 1 in Python but not in JSON, hence the comparison of types.
    if "enum" in schema and not any(
        value == v and isinstance(value, bool) == isinstance(v, bool) for v in schema["enum"]
    ):
        return f"should be one of {', '.join(_literal(v) for v in schema['enum'])}"
    if "const" in schema and value != schema["const"]:
        return f"should be {_literal(schema['const'])}"
    for part in schema.get("allOf", ()):
        if misfit := problem(value, part, root, depth + 1):
            return misfit
    for key in ("anyOf", "oneOf"):
        if key in schema and all(problem(value, part, root, depth + 1) for part in schema[key]):
            return f"should be {type_text(schema, root)}, not {type(value).__name__}"
    return _size_problem(value, schema) or _inner_problem(value, schema, root, depth)


def _size_problem(value: Any, schema: Schema) -> str:
    if _IS["number"](value):
        if "minimum" in schema and value < schema["minimum"]:
            return f"should be at least {schema['minimum']}"
        if "maximum" in schema and value > schema["maximum"]:
            return f"should be at most {schema['maximum']}"
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            return f"should be above {schema['exclusiveMinimum']}"
        if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
            return f"should be below {schema['exclusiveMaximum']}"
    unit = "Length" if isinstance(value, str) else "Items"
    if isinstance(value, str | list | tuple):
        if len(value) < schema.get(f"min{unit}", 0):
            return f"should have a length of at least {schema[f'min{unit}']}"
        if len(value) > schema.get(f"max{unit}", len(value)):
            return f"should have a length of at most {schema[f'max{unit}']}"
    return ""


def _inner_problem(value: Any, schema: Schema, root: Schema, depth: int) -> str:
    if isinstance(value, list | tuple) and "items" in schema:
        for i, item in enumerate(value):
            if misfit := problem(item, schema["items"], root, depth + 1):
                return f"item {i} {misfit}"
    if isinstance(value, Mapping):
        for name in schema.get("required", ()):
            if name not in value:
                return f"misses {name!r}"
        known = schema.get("properties", {})
        for name, item in value.items():
            entry = known.get(name, schema.get("additionalProperties", True))
            if entry is False:
                return f"has an unknown key {name!r}"
            if misfit := problem(item, entry, root, depth + 1):
                return f"key {name!r} {misfit}"
    return ""


def violations(arguments: Any, parameters: Schema) -> dict[str, str]:
    """Return how the arguments of a call break the schema of a tool, by parameter; empty when they conform.

    Required ones are there, no unknown ones are, and each fits its own schema (types as in JSON: true is no integer).
    Nothing is repaired first.
    """
    if not isinstance(arguments, Mapping):
        return {"": f"should be an object of named values, not {type(arguments).__name__}"}
    known, extra = parameters.get("properties", {}), parameters.get("additionalProperties", False)
    broken = {name: "is missing" for name in parameters.get("required", ()) if name not in arguments}
    for name, value in arguments.items():
        if name not in known and extra is False:
            broken[str(name)] = "is unknown"
        elif misfit := problem(value, known.get(name, extra), parameters):
            broken[str(name)] = misfit
    return broken


def unknown_key(value: Any, schema: Any, root: Schema, depth: int = 0) -> str:
    """Return what is said of a key inside ``value`` that an object of ``schema`` has no place for, "" without one.

    Libraries that make objects of JSON drop such keys; here a misspelt one is not to be taken for its default.
    """
    schema = resolve(schema, root)
    if not isinstance(schema, Mapping) or depth > 32:
        return ""
    parts = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if parts:
        said = [unknown_key(value, part, root, depth + 1) for part in parts if not problem(value, part, root)]
        return "" if "" in said else next(iter(said), "")
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, list | tuple):
        inner = [(item, schema.get("items")) for item in value]
    if isinstance(value, Mapping):
        known, open_to = schema.get("properties", {}), schema.get("additionalProperties", not schema.get("properties"))
        if open_to is False and (extra := [name for name in value if name not in known]):
            return f"it has no key {extra[0]!r}; {nearest(str(extra[0]), list(known))}"
        inner = [(item, known.get(name, open_to)) for name, item in value.items()]
    return next(filter(None, (unknown_key(item, entry, root, depth + 1) for item, entry in inner)), "")


def candidates(value: Any, schema: Any, root: Schema, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield ``(repair, value)`` pairs that may fit ``schema`` where ``value`` itself does not, safest first.

    Repairs: ``number`` ("3" or 3.0 to 3), ``boolean`` ("true"), ``null`` ("null"), ``text`` (3 to "3"), ``case`` ("Red"
    to the listed "red"), ``json`` (text that holds a list or object), ``list`` (one value for a list), ``nested``
    (repairs inside a list or object).
    """
    schema = resolve(schema, root)
    if not isinstance(schema, Mapping) or depth > 8:
        return
    for key in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(key, ()):
            yield from candidates(value, part, root, depth + 1)
    for listed in schema.get("enum", ()):
        if isinstance(value, str) and isinstance(listed, str) and value.strip().lower() == listed.lower():
            yield "case", listed
    kinds = _kinds(schema)
    yield from _scalars(value, kinds)
    if isinstance(value, str) and ("object" in kinds or "array" in kinds):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, dict | list):
            yield "json", parsed
            for _, fixed in candidates(parsed, schema, root, depth + 1):
                yield "json", fixed
    if isinstance(value, list | tuple | Mapping):
        fixed = _nested(value, schema, root, depth)
        if fixed is not None:
            yield "nested", fixed
    if "array" in kinds and value is not None and not isinstance(value, list | tuple):
        yield "list", [value]
        for _, fixed in candidates([value], schema, root, depth + 1):
            yield "list", fixed


def _scalars(value: Any, kinds: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yield repaired numbers, booleans, nulls and texts."""
    text = value.strip() if isinstance(value, str) and len(value) < 400 else None
    if "integer" in kinds:
        if text is not None and text.replace("_", "").removeprefix("-").removeprefix("+").isdecimal():
            yield "number", int(text)
        elif isinstance(value, float) and value.is_integer():
            yield "number", int(value)
    if text is not None and ("number" in kinds or "integer" in kinds):
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if abs(number) < float("inf"):
            yield "number", int(number) if number.is_integer() and "number" not in kinds else number
    if "boolean" in kinds:
        word = text.lower() if text is not None else value
        if word in ("true", "yes", "1") or (word == 1 and not isinstance(word, bool)):
            yield "boolean", True
        elif word in ("false", "no", "0") or (word == 0 and not isinstance(word, bool)):
            yield "boolean", False
    if "null" in kinds and text is not None and text.lower() in ("null", "none", ""):
        yield "null", None
    if "string" in kinds and isinstance(value, int | float):
        yield "text", value.written if isinstance(value, Number) else json.dumps(value)


def _nested(value: Any, schema: Schema, root: Schema, depth: int) -> Any:
    """Repair the entries of a list or object; None when nothing changes or an entry stays wrong."""

    def fix(item: Any, entry: Any) -> Any:
        if not problem(item, entry, root):
            return item
        for _, fixed in candidates(item, entry, root, depth + 1):
            if not problem(fixed, entry, root):
                return fixed
        return item

    if isinstance(value, Mapping):
        known = schema.get("properties", {})
        extra = schema.get("additionalProperties", True)
        repaired: Any = {key: fix(item, known.get(key, extra)) for key, item in value.items()}
    elif "items" in schema:
        repaired = [fix(item, schema["items"]) for item in value]
    else:
        return None
    return repaired if json_differs(repaired, value) else None


def json_differs(left: Any, right: Any) -> bool:
    """True when two JSON values differ in value or in type (1, 1.0 and true are three values here)."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() != right.keys() or any(json_differs(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) != len(right) or any(json_differs(a, b) for a, b in zip(left, right, strict=True))
    return type(left) is not type(right) or bool(left != right)
