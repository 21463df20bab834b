"""Tool documents text by text: what they say, edits of single texts, the versions of each, and what is said twice.

A document is what an overlay (``ferrule.tools.overlay``) makes a model read of a tool. Every text has a key, the tool's
own name and the field, so that edits from several sources can be joined, and its versions followed. Sources: "From
Exploration to Mastery: Enabling LLMs to Master Tools via Self-Driven Interactions" (37), "JTPRO: A Joint Tool-Prompt
Reflective Optimization Framework for Language Agents" (56).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.records import Tool
from ferrule.tools.overlay import Key, Overlay, ParameterText, ToolText, diff, from_json, revise, to_json

__all__ = [
    "about", "as_lines", "at_version", "changes", "documents_of", "documents_text", "edited", "lifted",
    "read_documents", "reworded", "shown", "texts_of", "versions", "word_count", "write_documents",
]  # fmt: skip

_PARAMETER = re.compile(r"parameters\.(?P<name>.+)\.(?P<part>name|description)")
_PLAIN = tuple(entry.name for entry in fields(ToolText) if entry.name != "parameters")


def about(parameter: str) -> str:
    """Return the field of the description of a parameter."""
    return f"parameters.{parameter}.description"


def texts_of(tools: Sequence[Tool], overlay: Overlay | None = None) -> dict[Key, str]:
    """Return the descriptions of tools and of their parameters as an overlay words them, empty ones included."""
    texts: dict[Key, str] = {}
    for tool in tools:
        worded = (overlay.texts.get(tool.name) if overlay else None) or ToolText()
        texts[tool.name, "description"] = tool.description if worded.description is None else worded.description
        for name, entry in tool.parameters.get("properties", {}).items():
            said = worded.parameters[name].description if name in worded.parameters else None
            if said is None:
                said = str(entry.get("description", "")) if isinstance(entry, Mapping) else ""
            texts[tool.name, about(name)] = said
    return texts


def word_count(tools: Sequence[Tool], overlay: Overlay | None = None) -> int:
    """Return the number of words in the descriptions of tools and of their parameters."""
    return sum(len(text.split()) for text in texts_of(tools, overlay).values())


def edited(overlay: Overlay, edits: Mapping[Key, Any]) -> Overlay:
    """Return the next version with single texts replaced; None in place of a text returns to the tool's own words.

    Without a change it is the same overlay. Raises ``ValueError`` for an unknown field.
    """
    texts = dict(overlay.texts)
    for (tool, key), value in edits.items():
        texts[tool] = _with(texts.get(tool, ToolText()), tool, key, value)
    changed = {tool: text for tool, text in texts.items() if text != overlay.texts.get(tool, ToolText())}
    return revise(overlay, changed) if changed else overlay


def _with(text: ToolText, tool: str, key: str, value: Any) -> ToolText:
    if named := _PARAMETER.fullmatch(key):
        entry = replace(text.parameters.get(named["name"], ParameterText()), **{named["part"]: value})
        return replace(text, parameters={**text.parameters, named["name"]: entry})
    if key not in _PLAIN:
        known = (*_PLAIN, "parameters.NAME.description", "parameters.NAME.name")
        raise ValueError(f"unknown field {key!r} of {tool!r}; {nearest(key, known)}")
    changed: dict[str, Any] = {key: tuple(value or ()) if key == "examples" else value}
    return replace(text, **changed)


def reworded(tools: Sequence[Tool], others: Sequence[Tool]) -> Overlay:
    """Return the overlay under which ``tools`` say what ``others`` of the same names say of themselves.

    So two releases of documents become two versions. Parameters that ``tools`` do not have are left out.
    """
    before, after = texts_of(tools), texts_of(others)
    return edited(Overlay(), {key: text for key, text in after.items() if key in before and before[key] != text})


def changes(before: Overlay, after: Overlay) -> dict[Key, Any]:
    """Return the edits that lead from one overlay to another: ``edited(before, edits)`` says what ``after`` says."""
    return {key: new for key, (_, new) in diff(before, after).items()}


def versions(overlay: Overlay, key: Key) -> list[tuple[str, Any]]:
    """Return what a text has been, oldest first: each value with the id of the version that brought it."""
    kept: list[tuple[str, Any]] = []
    before = Overlay()
    for version in overlay.history:
        for changed, (_, new) in diff(before, version).items():
            if changed == key:
                kept.append((version.id, new))
        before = version
    return kept


def at_version(overlay: Overlay, version: str) -> Overlay:
    """Return the version of a history whose id begins with ``version``; raises ``ValueError`` naming the ids."""
    fitting = [one for one in overlay.history if one.id.startswith(version)]
    if not version or len(fitting) != 1:
        why = "several versions begin so" if len(fitting) > 1 else nearest(version, [one.id for one in overlay.history])
        raise ValueError(f"unknown version {version!r}; {why}")
    return fitting[0]


def shown(before: Overlay, after: Overlay, tool: str = "") -> list[str]:
    """Return the difference of two overlays as lines: the key, then what is gone (``-``) and what is new (``+``).

    The tool's own words are shown as ``(the tool's own words)``; ``tool`` keeps to one tool.
    """
    lines: list[str] = []
    for (name, key), pair in diff(before, after).items():
        if tool in ("", name):
            lines.append(f"{name} {key}")
            for mark, value in zip("-+", pair, strict=True):
                text = "(the tool's own words)" if value is None else value if isinstance(value, str) else repr(value)
                lines += [f"  {mark} {line}" for line in text.splitlines() or [""]]
    return lines


def documents_text(overlay: Overlay, rules: Mapping[str, str] | None = None) -> str:
    """Return an overlay with its history as JSON, and the rules for all tools that its texts may point to."""
    kept = {"rules": dict(rules)} if rules else {}
    return json.dumps({**kept, **json.loads(to_json(overlay))}, ensure_ascii=False, indent=1)


def documents_of(text: str) -> tuple[Overlay, dict[str, str]]:
    """Read what ``documents_text`` wrote: overlay and rules.

    Raises ``ValueError`` for a text that holds no overlay, or rules that are no texts by name.
    """
    overlay, rules = from_json(text), json.loads(text).get("rules", {})
    if not isinstance(rules, dict) or not all(isinstance(rule, str) for rule in rules.values()):
        raise ValueError(f"rules are texts by name, not {rules!r:.80}")
    return overlay, rules


def write_documents(path: str | Path, overlay: Overlay, rules: Mapping[str, str] | None = None) -> None:
    """Write an overlay and rules to a file, as ``documents_text``; folders on the way are created."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(documents_text(overlay, rules) + "\n", encoding="utf-8")


def read_documents(path: str | Path) -> tuple[Overlay, dict[str, str]]:
    """Read what ``write_documents`` wrote; raises ``ValueError`` naming the file where that is not possible."""
    try:
        return documents_of(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path}: not an overlay: brackets are nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def as_lines(rules: Mapping[str, str]) -> str:
    """Return rules as a model reads them, one a line with its name."""
    return "\n".join(f"{name}: {text}" for name, text in rules.items())


def lifted(
    tools: Sequence[Tool], overlay: Overlay, rules: Mapping[str, str] | None = None, *, least: int = 2
) -> tuple[Overlay, dict[str, str]]:
    """Return an overlay in which descriptions that parameters of several tools share point to rules, and all rules.

    Descriptions are compared by meaning as far as their words tell it: in small letters, with single spaces. One that
    at least ``least`` tools have becomes a rule (``R1``, ``R2``, ..., after the given ``rules``; those of most tools
    first, equal ones in the order of the alphabet), and its parameters say ``see R1``. A description that one of the
    given rules has in the same words points to that rule. What points to a rule is never lifted itself, and a number
    that something points to is not given anew. Raises ``ValueError`` for ``least`` below 2. Source: JTPRO (56), its
    rules across tools.
    """
    if least < 2:
        raise ValueError(f"least is {least}; a rule is shared by 2 tools or more")
    kept = dict(rules or {})
    texts = {key: _plain(text) for key, text in texts_of(tools, overlay).items() if key[1] != "description"}
    pointers = {_plain(f"see {name}") for name in kept}
    taken = {int(match[1]) for text in texts.values() if (match := re.fullmatch(r"see r(\d+)", text))}
    taken |= {int(name[1:]) for name in kept if re.fullmatch(r"R\d+", name)}
    places: dict[str, list[Key]] = {}
    for key, text in texts.items():
        if text and text not in pointers and not re.fullmatch(r"see r\d+", text):
            places.setdefault(text, []).append(key)
    named = {_plain(text): name for name, text in kept.items()}
    counts = {text: len({tool for tool, _ in keys}) for text, keys in places.items()}
    shared = (text for text, count in counts.items() if count >= least and text not in named)
    for text in sorted(shared, key=lambda text: (-counts[text], text)):
        taken.add(number := max(taken, default=0) + 1)
        named[text] = f"R{number}"
        kept[named[text]] = text
    edits = {key: f"see {name}" for text, name in named.items() for key in places.get(text, ())}
    return edited(overlay, edits), kept


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
