"""Reading JSON that a model wrote: strict first, then repaired with every liberty named, never an exception."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ferrule.core.records import Call

__all__ = [
    "MAX_CALLS",
    "MAX_DEPTH",
    "MAX_REPAIR",
    "Parsed",
    "call_from",
    "defuse",
    "dump",
    "measure",
    "numbered",
    "parse_json",
    "parse_prefix",
]

MAX_CALLS = 64
"""Most calls read from one message; the text past them becomes one malformed call (keeps reading linear)."""
MAX_DEPTH = 64
"""Deepest nesting of JSON arguments."""
MAX_REPAIR = 8_000
"""Longest broken JSON text, in characters, that is repaired; longer ones are malformed."""
MAX_BRACKETS = 100
"""Most opening brackets in a broken JSON text that is repaired (the repair takes quadratic time in them)."""

_ARGUMENT_KEYS = ("arguments", "parameters", "args", "kwargs", "input")
_NAME_KEYS = ("name", "tool", "tool_name", "function", "action")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Parsed:
    """A JSON value with the repairs it took, or the problem that makes it unreadable."""

    value: Any = None
    repairs: tuple[str, ...] = ()
    problem: str = ""


def dump(value: Any, *stops: str) -> str:
    r"""Write JSON on one line; text of ``stops`` inside strings is written with ``\/`` so that it cannot end a call."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    for stop in stops:
        if "/" in stop:
            text = text.replace(stop, stop.replace("/", "\\/"))
    return text


def measure(value: Any) -> tuple[str, bool]:
    """Return what is wrong with a parsed value ("" if nothing), and whether it holds broken unicode (surrogates)."""
    broken = False
    stack: list[tuple[Any, int]] = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        if depth > MAX_DEPTH:
            return f"nested deeper than {MAX_DEPTH} levels", broken
        if isinstance(item, float) and not math.isfinite(item):
            return f"{item} is not a JSON number", broken
        if isinstance(item, str):
            broken = broken or _SURROGATE.search(item) is not None
        elif isinstance(item, dict):
            stack += [(v, depth + 1) for v in item.values()]
            broken = broken or any(_SURROGATE.search(str(k)) for k in item)
        elif isinstance(item, list):
            stack += [(v, depth + 1) for v in item]
    return "", broken


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_mended(k): _mended(v) for k, v in value.items()}
    return [_mended(v) for v in value] if isinstance(value, list) else value


class _NotJson(ValueError):
    """Raised on the constants NaN, Infinity and -Infinity."""


def _decoder(repairs: list[str]) -> json.JSONDecoder:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(items)
        if len(entries) < len(items) and "duplicate key" not in repairs:
            repairs.append("duplicate key")
        return entries

    def constant(name: str) -> Any:
        raise _NotJson(f"{name} is not a JSON number")

    return json.JSONDecoder(object_pairs_hook=pairs, parse_constant=constant)


def _checked(value: Any, repairs: Sequence[str]) -> Parsed:
    problem, broken = measure(value)
    if problem:
        return Parsed(None, tuple(repairs), problem)
    if broken:
        return Parsed(_mended(value), (*repairs, "unicode"))
    return Parsed(value, tuple(repairs))


def parse_prefix(text: str, start: int) -> tuple[Parsed, int] | None:
    """Read one strict JSON value at ``start``; return it with the index after it, or None when there is none."""
    repairs: list[str] = []
    try:
        value, end = _decoder(repairs).raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return _checked(value, repairs), end


def parse_json(text: str) -> Parsed:
    """Read a whole text as JSON; broken text is repaired (``repairs`` says how) or given a ``problem``."""
    repairs: list[str] = []
    try:
        return _checked(_decoder(repairs).decode(text), repairs)
    except _NotJson as error:
        return Parsed(problem=str(error))
    except (ValueError, RecursionError) as error:
        return _repaired(text, str(error))


def _repaired(text: str, why: str) -> Parsed:
    if not text.strip():
        return Parsed(problem="empty call")
    if len(text) > MAX_REPAIR or text.count("{") + text.count("[") > MAX_BRACKETS:
        return Parsed(problem=f"broken JSON, too long to repair ({why})")
    import json_repair

    try:
        value = json_repair.loads(text, skip_json_loads=True)
    except (ValueError, RecursionError, IndexError, TypeError, KeyError):
        return Parsed(problem=f"broken JSON ({why})")
    if not isinstance(value, dict | list) or not value:
        return Parsed(problem=f"not a JSON object ({why})")
    repairs = ["json"]
    if re.search(r"[{\[,:]\s*'", text):
        repairs.append("single quotes")
    if isinstance(value, list) and len(value) > 1 and not text.lstrip().startswith("["):
        repairs.append("several objects")
    return _checked(value, repairs)


def _first_key(value: Mapping[str, Any], keys: Sequence[str]) -> str:
    return next((key for key in keys if key in value), "")


def _arguments(value: Mapping[str, Any], repairs: list[str]) -> tuple[Any, str]:
    """Return (arguments, problem) of a call object and note what had to be assumed."""
    key = _first_key(value, _ARGUMENT_KEYS)
    if not key or value[key] is None:
        repairs.append("no arguments")
        return {}, ""
    if key != "arguments":
        repairs.append(key)
    arguments = value[key]
    if isinstance(arguments, str):
        inner = parse_json(arguments)
        if not isinstance(inner.value, dict):
            return {}, f"{key} must be a JSON object, not the text {arguments[:40]!r}"
        repairs += ["arguments as text", *inner.repairs]
        return inner.value, ""
    if not isinstance(arguments, dict):
        return {}, f"{key} must be a JSON object, not {type(arguments).__name__}"
    return arguments, ""


def call_from(parsed: Parsed, raw: str, repairs: Sequence[str] = ()) -> Call:
    """Turn a parsed object ``{"name": ..., "arguments": {...}}`` into a call; what is wrong becomes its problem."""
    notes = [*repairs, *parsed.repairs]
    value = parsed.value
    if parsed.problem:
        return Call("", raw=raw, problem=parsed.problem, repairs=tuple(notes))
    if not isinstance(value, dict):
        problem = f"a call must be a JSON object, not {type(value).__name__}"
        return Call("", raw=raw, problem=problem, repairs=tuple(notes))
    wrapped = value.get("function")
    if isinstance(wrapped, dict):
        notes.append("function wrapper")
        identity = value.get("id")
        value = wrapped if identity is None else {**wrapped, "id": identity}
    key = _first_key(value, _NAME_KEYS)
    name = value.get(key) if key else None
    if not isinstance(name, str) or not name.strip():
        return Call("", raw=raw, problem='the call has no "name"', repairs=tuple(notes))
    if key != "name":
        notes.append(key)
    if name != name.strip():
        notes.append("name spaces")
    arguments, problem = _arguments(value, notes)
    extra = set(value) - {key, "id", "type", _first_key(value, _ARGUMENT_KEYS)}
    if extra:
        notes.append("extra keys")
    identity = value.get("id")
    return Call(
        name.strip(),
        arguments,
        id=identity if isinstance(identity, str) else "",
        raw=raw,
        problem=problem,
        repairs=tuple(dict.fromkeys(notes)),
    )


def numbered(calls: Sequence[Call]) -> tuple[Call, ...]:
    """Give calls without an id ``call_0``, ``call_1``, ... by position; a repeated id is replaced as well."""
    identities: set[str] = set()
    renamed: list[Call] = []
    for i, call in enumerate(calls):
        repeated = call.id in identities
        identity = f"call_{i}" if not call.id or repeated else call.id
        identities.add(identity)
        notes = (*call.repairs, "repeated id") if call.id and repeated else call.repairs
        renamed.append(replace(call, id=identity, repairs=notes))
    return tuple(renamed)


def defuse(text: str, *markers: str) -> str:
    """Break every marker inside foreign text with a space after its first character, so that it closes nothing."""
    for marker in markers:
        if marker and marker in text:
            text = text.replace(marker, f"{marker[0]} {marker[1:]}")
    return text
