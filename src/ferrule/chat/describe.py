"""Tool descriptions for the system message: full JSON schema lines, or one short signature line per tool."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ferrule.core.arrays import nearest
from ferrule.core.records import Tool

__all__ = ["STYLES", "Style", "check_style", "listing", "signature", "tool_schema"]

Style = Literal["json", "signature"]
STYLES: tuple[Style, ...] = ("json", "signature")

_SHORT = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "array": "list", "object": "dict"}


def check_style(style: str) -> None:
    """Refuse an unknown description style with the valid ones (``ValueError``)."""
    if style not in STYLES:
        raise ValueError(f"unknown description style {style!r}; {nearest(style, STYLES)}")


def tool_schema(tool: Tool) -> dict[str, Any]:
    """Return a tool in the function form that chat templates and OpenAI-compatible servers read."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "|".join(json.dumps(value, ensure_ascii=False, default=str) for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return "|".join(dict.fromkeys(_type(option) for option in schema[key] if isinstance(option, Mapping)))
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return "|".join(_SHORT.get(str(k), str(k)) for k in kind)
    if kind == "array" and isinstance(schema.get("items"), Mapping):
        return f"list[{_type(schema['items'])}]"
    return _SHORT.get(str(kind), str(kind))


def signature(tool: Tool) -> str:
    """Return one line: ``name(arg: type, option: type = default): first line of the description``."""
    required = set(tool.parameters.get("required", ()))
    parts = []
    for name, schema in tool.parameters.get("properties", {}).items():
        shown = f"{name}: {_type(schema)}"
        if "default" in schema:
            shown += f" = {json.dumps(schema['default'], ensure_ascii=False, default=str)}"
        elif name not in required:
            shown = f"{name}?: {_type(schema)}"
        parts.append(shown)
    first = tool.description.strip().split("\n", 1)[0]
    return f"{tool.name}({', '.join(parts)})" + (f": {first}" if first else "")


def listing(tools: Sequence[Tool], style: str) -> str:
    """Return one line per tool in the given style."""
    check_style(style)
    if style == "signature":
        return "\n".join(signature(tool) for tool in tools)
    return "\n".join(json.dumps(tool_schema(tool), ensure_ascii=False, default=str) for tool in tools)
