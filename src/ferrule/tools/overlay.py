"""Overlays: versioned texts over immutable tools.

What a model reads of a tool (name, description, names and descriptions of parameters, what it returns, examples) can be
rewritten without touching the callable, its types or its effects. An overlay is a value: its id is the hash of its
content, and it links to the version it was made from. ``ferrule.tools.documents`` edits overlays text by text.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

from ferrule.core.arrays import nearest
from ferrule.core.records import Tool
from ferrule.tools.results import outline
from ferrule.tools.tool import NAME, Typed

__all__ = ["Key", "Overlay", "ParameterText", "ToolText", "apply", "diff", "from_json", "names", "revise", "to_json"]

Key: TypeAlias = tuple[str, str]
"""A tool's own name and a field: ``name``, ``description``, ``examples``, ``output``, ``parameters.NAME.description``
or ``parameters.NAME.name``."""


@dataclass(frozen=True)
class ParameterText:
    """The texts of one parameter; None keeps the tool's text."""

    name: str | None = None
    description: str | None = None


@dataclass(frozen=True)
class ToolText:
    """The texts of one tool; None keeps the tool's text.

    ``parameters`` is keyed by the tool's own parameter names. ``output`` is a JSON schema of the result, which becomes
    the tool's and follows the description as an outline; ``examples`` come last.
    """

    name: str | None = None
    description: str | None = None
    parameters: Mapping[str, ParameterText] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    output: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Overlay:
    """Texts by the tools' own names, made from ``parent`` (None for the first version)."""

    texts: Mapping[str, ToolText] = field(default_factory=dict)
    parent: Overlay | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """Hash of the texts and of the parent's id: 16 hexadecimal digits."""
        return _hash(_plain(self), self.parent.id if self.parent else "")

    @property
    def history(self) -> tuple[Overlay, ...]:
        """All versions up to this one, oldest first."""
        versions: list[Overlay] = []
        at: Overlay | None = self
        while at is not None:
            versions.append(at)
            at = at.parent
        return tuple(reversed(versions))


def _hash(texts: Any, parent: str) -> str:
    content = json.dumps([texts, parent], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def revise(overlay: Overlay, texts: Mapping[str, ToolText]) -> Overlay:
    """Return the next version: ``texts`` replace those of the same tools, the others stay."""
    return Overlay({**overlay.texts, **texts}, parent=overlay)


def names(overlay: Overlay) -> dict[str, dict[str, Any]]:
    """Return the renamings alone: ``{tool: {"name": shown, "parameters": {own: shown}}}``, identities included."""
    return {
        tool: {
            "name": text.name or tool,
            "parameters": {key: entry.name or key for key, entry in text.parameters.items()},
        }
        for tool, text in overlay.texts.items()
    }


def apply(tools: Sequence[Tool], overlay: Overlay) -> tuple[Tool, ...]:
    """Return the tools as the overlay words them; they take renamed arguments and run the same callables.

    Raises ``ValueError`` for a tool or parameter that does not exist, an invalid name, and two tools or
    parameters of one name.
    """
    known = [tool.name for tool in tools]
    for name in overlay.texts:
        if name not in known:
            raise ValueError(f"the overlay has texts for an unknown tool {name!r}; {nearest(name, known)}")
    worded = tuple(_worded(tool, overlay.texts[tool.name]) if tool.name in overlay.texts else tool for tool in tools)
    _distinct([tool.name for tool in worded], "tools")
    return worded


def _distinct(shown: Sequence[str], what: str) -> None:
    double = sorted({name for name in shown if shown.count(name) > 1})
    if double:
        raise ValueError(f"the overlay gives two {what} the name {double[0]!r}; names must differ")


def _worded(tool: Tool, text: ToolText) -> Tool:
    declared: Mapping[str, Any] = tool.parameters.get("properties", {})
    for name in text.parameters:
        if name not in declared:
            raise ValueError(
                f"the overlay has texts for an unknown parameter {name!r} of {tool.name!r}; "
                f"{nearest(name, list(declared))}"
            )
    shown = {name: (text.parameters[name].name if name in text.parameters else None) or name for name in declared}
    _distinct(list(shown.values()), f"parameters of {tool.name!r}")
    for name in filter(None, (text.name, *(entry.name for entry in text.parameters.values()))):
        if not NAME.fullmatch(name):
            raise ValueError(f"the overlay names something of {tool.name!r} {name!r}, which is not a valid name")
    properties = {}
    for name, entry in declared.items():
        wording = text.parameters[name].description if name in text.parameters else None
        properties[shown[name]] = entry if wording is None else {**entry, "description": wording}
    parameters = {**tool.parameters, "properties": properties}
    if "required" in tool.parameters:
        parameters["required"] = [shown.get(name, name) for name in tool.parameters["required"]]
    description = tool.description if text.description is None else text.description
    if text.output is not None:
        description = "\n".join((description, "Returns:", outline(text.output))).strip()
    if text.examples:
        description = "\n".join((description, "Examples:", *text.examples)).strip()
    output = tool.output if text.output is None else text.output
    run = tool.run if all(name == own_name for own_name, name in shown.items()) else _renamed(tool.run, shown)
    shown_as = text.name or tool.name
    return replace(tool, name=shown_as, description=description, parameters=parameters, run=run, output=output)


def _renamed(run: Callable[..., Any], shown: Mapping[str, str]) -> Callable[..., Any]:
    """Return the callable under other parameter names; what checks its arguments stays as it is."""
    originals = {name: name_before for name_before, name in shown.items()}
    function = run.function if isinstance(run, Typed) else run

    def translated(**arguments: Any) -> Any:
        return function(**{originals.get(name, name): value for name, value in arguments.items()})

    async def awaited(**arguments: Any) -> Any:
        return await translated(**arguments)

    under = awaited if inspect.iscoroutinefunction(function) else translated
    if not isinstance(run, Typed):
        return under
    adapters = {shown.get(name, name): adapter for name, adapter in run.adapters.items()}
    return replace(run, function=under, adapters=adapters)


def diff(before: Overlay, after: Overlay) -> dict[Key, tuple[Any, Any]]:
    """Return what changed as ``{(tool, field): (old, new)}``; None stands for the tool's own words."""
    old, new = _flat(before), _flat(after)
    return {key: (old.get(key), new.get(key)) for key in sorted({*old, *new}) if old.get(key) != new.get(key)}


def _flat(overlay: Overlay) -> dict[Key, Any]:
    flat: dict[Key, Any] = {}
    for tool, entry in _plain(overlay).items():
        for name, part in entry.pop("parameters", {}).items():
            flat |= {(tool, f"parameters.{name}.{key}"): value for key, value in part.items()}
        flat |= {(tool, key): value for key, value in entry.items()}
    return flat


def _plain(overlay: Overlay) -> dict[str, Any]:
    """Return the texts as JSON data without empty entries."""
    texts: dict[str, Any] = {}
    for name, text in overlay.texts.items():
        parameters = {key: _said(entry) for key, entry in text.parameters.items()}
        entry = _said(text) | {"parameters": {key: worded for key, worded in parameters.items() if worded}}
        entry["examples"] = list(text.examples)
        texts[name] = {key: value for key, value in entry.items() if value not in ({}, [])}
        if text.output is not None:
            texts[name]["output"] = dict(text.output)
    return texts


def _said(text: ToolText | ParameterText) -> dict[str, Any]:
    return {key: getattr(text, key) for key in ("name", "description") if getattr(text, key) is not None}


def to_json(overlay: Overlay) -> str:
    """Return the overlay with its history as JSON: ``{"versions": [{"id", "texts"}, ...]}``, oldest first."""
    versions = [{"id": version.id, "texts": _plain(version)} for version in overlay.history]
    return json.dumps({"versions": versions}, ensure_ascii=False, indent=1)


def from_json(text: str) -> Overlay:
    """Read what ``to_json`` wrote.

    Raises ``ValueError`` for text that is not an overlay, for keys that an overlay does not have (types and callables
    cannot be overlaid), and for a version whose content does not match its id.
    """
    try:
        versions = json.loads(text)["versions"]
        rows = [(str(row["id"]), dict(row["texts"])) for row in versions]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"not an overlay: {type(error).__name__}: {error}; wanted an object with 'versions'") from None
    if not rows:
        raise ValueError("not an overlay: it has no versions")
    overlay: Overlay | None = None
    for name, texts in rows:
        overlay = Overlay({tool: _tool_text(tool, entry) for tool, entry in texts.items()}, parent=overlay)
        if overlay.id != name:
            raise ValueError(f"overlay version {name!r} has the content of {overlay.id!r}; it was changed")
    assert overlay is not None
    return overlay


def _tool_text(tool: str, entry: Any) -> ToolText:
    keywords = _checked(tool, entry, ToolText)
    parameters = {
        name: ParameterText(**_checked(f"{tool}.{name}", part, ParameterText))
        for name, part in keywords.pop("parameters", {}).items()
    }
    return ToolText(**{**keywords, "parameters": parameters, "examples": tuple(keywords.get("examples", ()))})


def _outlined(schema: Mapping[str, Any]) -> bool:
    """Say whether a schema can be shown to a model."""
    try:
        outline(schema)
    except (AttributeError, TypeError):
        return False
    return True


def _checked(where: str, entry: Any, kind: type[ToolText] | type[ParameterText]) -> dict[str, Any]:
    """Return the entry as keywords of ``kind``; unknown keys and values of a wrong type are refused."""
    known = [field.name for field in fields(kind)]
    if not isinstance(entry, Mapping):
        raise ValueError(f"overlay of {where}: an object was expected, not {type(entry).__name__}")
    for key, value in entry.items():
        if key not in known:
            raise ValueError(f"overlay of {where}: unknown key {key!r}; {nearest(key, known)}")
        if key == "output":
            fits = isinstance(value, Mapping) and _outlined(value)
        elif key == "parameters":
            fits = isinstance(value, Mapping)
        elif key == "examples":
            fits = isinstance(value, list) and all(isinstance(line, str) for line in value)
        else:
            fits = isinstance(value, str)
        if not fits:
            raise ValueError(f"overlay of {where}: {key} cannot be {value!r:.80}")
    return dict(entry)
