"""Calls from JSON objects: which entry is the name, which are the arguments, and which id a call bears."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ferrule.chat.parsing import Parsed, parse_json, parse_prefix
from ferrule.core.records import Call

__all__ = ["ARGUMENT_KEYS", "arguments_from", "arguments_in", "call_from", "numbered", "object_in"]

ARGUMENT_KEYS = ("arguments", "parameters", "args", "kwargs", "input")
"""What the arguments of a call are named, the usual name first."""
_NAME_KEYS = ("name", "tool", "tool_name", "function", "action")
_TYPES = ("function", "tool_call", "function_call", "tool_use")
_STATES = ("completed", "in_progress", "incomplete")
_ABOUT = frozenset(
    [
        "call_id",
        "description",
        "extra_content",
        "function",
        "id",
        "index",
        "name",
        "output",
        "parsed_arguments",
        "provider_specific_fields",
        "status",
        "strict",
        "thought_signature",
        "type",
    ]
)  # what servers and data sets write about a call, and no argument of it


def _first_key(value: Mapping[str, Any], keys: Sequence[str]) -> str:
    return next((key for key in keys if key in value), "")


def arguments_from(given: Any, key: str = "arguments", *, repair: bool = True) -> tuple[dict[str, Any], list[str], str]:
    """Return the arguments that a value stands for, the repairs they took, and what is wrong ("" if nothing).

    None and a text without anything in it are no arguments. A text is read as JSON, also when it was put into quotes
    twice or an empty text (``""``) follows; a broken one is repaired where ``repair`` allows it.
    """
    if given is None:
        return {}, ["no arguments"], ""
    notes: list[str] = []
    for _ in range(3):
        if not isinstance(given, str):
            break
        if not given.strip():
            return {}, [*notes, "no arguments"], ""
        text = given.strip()
        if text.endswith('}""'):
            notes.append("trailing text")
            text = text[:-2]
        inner = parse_json(text)
        if inner.problem and parse_prefix(text, 0) is None and not text.startswith(("{", "[")):
            return {}, notes, f"{key} must be a JSON object, not the text {given[:40]!r}"
        if inner.problem or ("json" in inner.repairs and not repair):
            return {}, notes, f"{key}: {inner.problem or f'not JSON: {given[:80]!r}'}"
        notes += ["arguments as text", *inner.repairs]
        given = inner.value
    if given is None:
        return {}, notes, ""
    if not isinstance(given, dict):
        return {}, notes, f"{key} must be a JSON object, not {type(given).__name__}"
    return given, notes, ""


def _beside(value: Mapping[str, Any], *known: str) -> dict[str, Any]:
    """Return the entries of a call object beside the known ones and a word that it is a call."""
    beside = {key: entry for key, entry in value.items() if key not in known}
    if beside.get("type") in _TYPES:
        del beside["type"]
    return beside


def _is_about(key: str, entry: Any) -> bool:
    """Whether an entry is what servers write around a call: its ids, its place in the reply, its state, or null."""
    if entry is None:
        return key in _ABOUT or key in ARGUMENT_KEYS
    return key in ("id", "call_id", "index") or (key == "status" and entry in _STATES)


def _unwrapped(value: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Return the object that holds the name, what stands around it and may be arguments, and the id of the call.

    What servers write around a call goes only where the object says that it is such an entry, by a ``"function"`` or a
    type, and has arguments: elsewhere an "index" is one that the tool takes.
    """
    wrapped = isinstance(value.get("function"), dict)
    inner, outside = (dict(value["function"]), _beside(value, "function")) if wrapped else (value, {})
    if wrapped and not any(key in inner for key in ARGUMENT_KEYS):
        inner |= {key: outside.pop(key) for key in ARGUMENT_KEYS if key in outside}
    identity = outside.pop("id", None)
    if not any(key in inner and (wrapped or inner[key] is not None) for key in ARGUMENT_KEYS):
        return inner, outside, identity
    if wrapped:
        identity = outside.get("call_id") or identity
        outside = {key: entry for key, entry in outside.items() if not _is_about(key, entry)}
    elif value.get("type") in _TYPES:
        identity = inner.get("call_id") or inner.get("id")
        inner = {key: entry for key, entry in inner.items() if not _is_about(key, entry)}
    return inner, outside, identity


def arguments_in(entry: Mapping[str, Any], function: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the value that bears the arguments of a call in an API's form, and what is wrong ("" if nothing).

    ``function`` holds the name and is the entry itself, or what the entry has for ``"function"``; arguments stand in
    either, under one of `ARGUMENT_KEYS`. Two values of them, and what else stands beside the name, are wrong, for a
    tool must not run without arguments that were written. Beside arguments the entry around a function may hold more.
    """
    parts = (function,) if function is entry else (function, entry)
    values = [(key, part[key]) for part in parts for key in ARGUMENT_KEYS if part.get(key) is not None]
    key, given = values[0] if values else ("", None)
    empty = given is None or given == {} or (isinstance(given, str) and given.strip() in ("", "{}"))
    others = {other for other, value in values[1:] if value != given}
    for part in parts if empty else (function,):
        others |= {name for name in part if name not in _ABOUT | {*ARGUMENT_KEYS} and part[name] is not None}
    if not others:
        return given, ""
    place = f"beside {key!r}" if key else "beside the name, and there are no arguments"
    return None, f"{sorted(others)} stand {place}; write all arguments into one object"


def call_from(parsed: Parsed, raw: str, repairs: Sequence[str] = ()) -> Call:
    """Turn a parsed object ``{"name": ..., "arguments": {...}}`` into a call; what is wrong becomes its problem.

    Arguments written beside the name are taken where there are no others; beside others they make the call malformed.
    """
    notes = [*repairs, *parsed.repairs]
    value = parsed.value

    def wrong(problem: str, name: str = "") -> Call:
        return Call(name, raw=raw, problem=problem, repairs=tuple(dict.fromkeys(notes)))

    if parsed.problem:
        return wrong(parsed.problem)
    if not isinstance(value, dict):
        return wrong(f"a call must be a JSON object, not {type(value).__name__}")
    notes += ["function wrapper"] * isinstance(value.get("function"), dict)
    value, outside, identity = _unwrapped(value)
    name_key = _first_key(value, _NAME_KEYS)
    name = value.get(name_key) if name_key else None
    if not isinstance(name, str) or not name.strip():
        return wrong('the call has no "name"')
    if twice := sorted(parsed.doubled & {*_NAME_KEYS, *ARGUMENT_KEYS}):
        return wrong(f"the call has {twice[0]!r} twice; write every call as an object of its own", name.strip())
    notes += [name_key] * (name_key != "name") + ["name spaces"] * (name != name.strip())
    keys = [key for key in ARGUMENT_KEYS if key in value and key != name_key]
    key = next((key for key in keys if value[key] is not None), "")
    empty = [other for other in keys if value[other] is None]
    if keys:  # without arguments an "id" may be one of them
        identity = identity or value.get("id")
        empty.append("id")
    notes += [key] * (key not in ("", "arguments"))
    beside = outside | _beside(value, name_key, key, *empty)
    if key and beside:
        return wrong(f"{sorted(beside)} stand beside {key!r}; write all arguments into one object", name.strip())
    arguments, more, problem = arguments_from(beside or value.get(key), key or "arguments")
    notes += ["arguments beside name"] if beside else more
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
        while identity in identities:
            identity += "_"
        identities.add(identity)
        notes = (*call.repairs, "repeated id") if call.id and repeated else call.repairs
        renamed.append(replace(call, id=identity, repairs=notes))
    return tuple(renamed)


def object_in(text: str) -> tuple[dict[str, Any], str]:
    """Return the JSON object that a text holds, and what is wrong ("" if nothing).

    It stands between the first and the last brace; a broken one is repaired.
    """
    start, end = text.find("{"), text.rfind("}")
    if start < 0:
        return {}, "the text holds no JSON object"
    read = parse_json(text[start : end + 1] if end > start else text[start:])
    if read.problem or not isinstance(read.value, dict):
        return {}, read.problem or f"the text holds a {type(read.value).__name__}, and no JSON object"
    return read.value, ""
