"""Tool descriptions for the system message: JSON schemas, signatures, or templates of calls.

A template is a call as the codec writes it, with types where the values stand and the tool's plan before it. A model
that first writes the plan and then the call copies both from the listing in one run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from ferrule.chat.parsing import dump
from ferrule.core.arrays import nearest
from ferrule.core.records import Call, Message, Tool

__all__ = [
    "LONGEST_NOTE",
    "LONGEST_PLAN",
    "STYLES",
    "Style",
    "check_style",
    "fields",
    "json_value",
    "listing",
    "plain_line",
    "plan",
    "signature",
    "takes_text",
    "template",
    "tool_schema",
]

Style = Literal["json", "signature", "call"]
STYLES: tuple[Style, ...] = ("json", "signature", "call")
LONGEST_PLAN = 100
"""Most characters of a plan."""
LONGEST_NOTE = 60
"""Most characters of a parameter's description in a template."""

_SHORT = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "array": "list", "object": "dict"}
_DEEPEST = 4
_MARK = re.compile(r"<(?=[\w/|!])|`(?=``)")
_SENTENCE = re.compile(r"(?<=[.!?]) ")
_SLOT = re.compile('\\["\ue000(\\d+)\ue001"\\]|"?\ue000(\\d+)\ue001"?')


def check_style(style: str) -> None:
    """Refuse an unknown description style with the valid ones (``ValueError``)."""
    if style not in STYLES:
        raise ValueError(f"unknown description style {style!r}; {nearest(style, STYLES)}")


def tool_schema(tool: Tool) -> dict[str, Any]:
    """Return a tool in the function form that chat templates and OpenAI-compatible servers read."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def json_value(value: Any) -> str:
    """Write a value as JSON that holds no closing tag."""
    return dump(value, "</")


def _flat(schema: Mapping[str, Any]) -> str:
    """Return the type of an array or object in a signature."""
    if schema["type"] == "array" and isinstance(schema.get("items"), Mapping):
        return f"list[{_type(schema['items'])}]"
    return _SHORT[schema["type"]]


def _type(
    schema: Mapping[str, Any],
    compound: Callable[[Mapping[str, Any]], str] = _flat,
    value: Callable[[Any], str] = json_value,
) -> str:
    """Return the short name of a schema's type; ``compound`` names arrays and objects, ``value`` writes enum values."""
    if "enum" in schema:
        return "|".join(value(choice) for choice in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            options = [option for option in schema[key] if isinstance(option, Mapping)]
            return "|".join(dict.fromkeys(_type(option, compound, value) for option in options))
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return "|".join(_SHORT.get(str(k), str(k)) for k in kind)
    return compound(schema) if kind in ("array", "object") else _SHORT.get(str(kind), str(kind))


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


def _short(text: str, most: int) -> str:
    """Return a text on one line without its final full stop, cut at a word, with marks of calls and turns broken."""
    line = " ".join(_MARK.sub(lambda mark: f"{mark[0]} ", text).split())
    if len(line) > most:
        line = line[: most + 1].rpartition(" ")[0] or line[:most]
    return line.removesuffix(".").rstrip()


def plan(tool: Tool) -> str:
    """Return what a model writes before a call of the tool: the first line of its description, in short.

    It is at most ``LONGEST_PLAN`` characters long and has no final full stop. Marks that could begin a call or a turn
    (``<tag``, three backticks) are broken by a space, and no bracket stands at the beginning, where it could begin a
    JSON object. Empty for a tool without a description.
    """
    return _short(tool.description.strip().split("\n", 1)[0], LONGEST_PLAN).lstrip("{[ ")


def fields(tool: Tool, value: Callable[[Any], str] = json_value) -> dict[str, str]:
    """Return what stands in a template for every parameter, by name: its type and what else there is to know.

    ``str`` is required, ``str?`` optional, ``int = 3`` has a default, ``"a"|"b"`` lists the valid values, ``[int]`` is
    a list and ``{"x": int}`` an object; the first sentence of the description follows in round brackets. ``value``
    writes values as the codec does.
    """
    required = set(tool.parameters.get("required", ()))
    properties = tool.parameters.get("properties", {})
    return {name: _field(schema, name in required, tool.parameters, value) for name, schema in properties.items()}


def _field(schema: Any, required: bool, root: Mapping[str, Any], value: Callable[[Any], str]) -> str:
    schema = schema if isinstance(schema, Mapping) else {}
    default = schema.get("default")
    shown = _nested(schema, root, value, 0)
    if default is not None:
        shown += f" = {value(default)}"
    elif "default" in schema or not required:
        shown = shown.removesuffix("|null") + "?"
    note = _short(_SENTENCE.split(str(schema.get("description", "")).strip(), maxsplit=1)[0], LONGEST_NOTE)
    return f"{shown} ({note})" if note else shown


def _nested(schema: Any, root: Mapping[str, Any], value: Callable[[Any], str], depth: int) -> str:
    """Return a type with the types inside it, down to ``_DEEPEST`` levels; ``#/$defs/X`` is looked up in ``root``."""
    schema = schema if isinstance(schema, Mapping) else {}
    if "$ref" in schema:
        schema = root.get("$defs", {}).get(str(schema["$ref"]).rpartition("/")[2], {})
    if depth > _DEEPEST:
        return _SHORT.get(str(schema.get("type")), "any")

    def inner(part: Any) -> str:
        return _nested(part, root, value, depth + 1)

    def compound(part: Mapping[str, Any]) -> str:
        if part["type"] == "array":
            return f"[{inner(part['items'])}]" if part.get("items") else "list"
        required = set(part.get("required", ()))
        pairs = part.get("properties", {}).items()
        texts = [f"{json_value(k)}: {inner(v)}{'' if k in required else '?'}" for k, v in pairs]
        return f"{{{', '.join(texts)}}}" if texts else "dict"

    for key in ("anyOf", "oneOf"):
        if key in schema:
            return "|".join(dict.fromkeys(inner(option) for option in schema[key]))
    return _type(schema, compound, value)


def takes_text(tool: Tool, name: str) -> bool:
    """Say whether a parameter of the tool is a text."""
    schema = tool.parameters.get("properties", {}).get(name)
    return isinstance(schema, Mapping) and schema.get("type") == "string"


def plain_line(tool: Tool) -> str:
    """Return the signature and plan of a tool whose calls the codec cannot write."""
    return signature(replace(tool, description=plan(tool)))


def template(tool: Tool, write: Callable[[Message], str], shown: Mapping[str, str], end: str = "") -> str:
    """Return the template of a tool's call: what ``write`` gives for its plan and call, with ``shown`` as the values.

    ``end`` is left out where the text ends with it. A tool whose calls ``write`` refuses is listed by ``plain_line``.
    """
    # Text is written bare by some codecs; only a text parameter may be, so others are a list while they are written.
    slots: dict[str, Any] = {}
    for i, name in enumerate(shown):
        slot = f"\ue000{i}\ue001"
        slots[name] = slot if takes_text(tool, name) else [slot]
    try:
        text = write(Message("assistant", plan(tool), (Call(tool.name, slots),)))
    except ValueError:
        return plain_line(tool)
    texts = list(shown.values())
    return _SLOT.sub(lambda slot: texts[int(slot[1] or slot[2])], text.removesuffix(end))


def listing(tools: Sequence[Tool], style: str, call: Callable[[Tool], str] = signature) -> str:
    """Return the tools in the given style, one after the other; ``call`` lists one in the style ``"call"``."""
    check_style(style)
    if style == "json":
        return "\n".join(json.dumps(tool_schema(tool), ensure_ascii=False, default=str) for tool in tools)
    return "\n".join((call if style == "call" else signature)(tool) for tool in tools)
