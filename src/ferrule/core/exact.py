"""Records and values as JSON data that reads back to equal objects: what every file and link between processes holds.

JSON data stands as it is, and so does whatever a record's fields declare: a ``tuple[int, ...]`` is a list, a record
an object of its fields, those at their defaults left out. What JSON cannot tell apart where nothing is declared
(tuples, bytes, sets, keys other than text, infinities, records) is an object whose key ``"!"`` names the kind. A
value of any other type is kept as JSON data where it has such a form, else as its ``repr``.

``write`` and ``read`` take a record whose type both sides know, ``encode`` and ``decode`` any value; ``plain`` is for
readers that know nothing of tags. None of the three writers ever raises.
"""

from __future__ import annotations

import base64
import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import date, time
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cache
from pathlib import PurePath
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from ferrule.core.clip import clean
from ferrule.core.flows import Leaf, Leaves, Step
from ferrule.core.records import (
    Artifact,
    Call,
    Image,
    Message,
    Observation,
    Reply,
    Score,
    Span,
    Task,
    Tool,
    Trajectory,
    Turn,
)

__all__ = ["decode", "encode", "line_of", "plain", "read", "text_of", "untagged", "write"]

T = TypeVar("T")

_TAG = "!"
_RECORDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(Artifact, Call, Image, Leaf, Leaves, Message, Observation, Step),
        *(Reply, Score, Span, Task, Tool, Trajectory, Turn),
    )
}
_TEXTS = (date, time, Decimal, Fraction, PurePath, UUID)  # whose ``str`` says all
_DEPTH = 100
_BITS = 10_000  # JSON readers refuse numbers of more than 4,300 digits


def encode(value: Any) -> Any:
    """Return ``value`` as JSON data from which ``decode`` makes an equal value of the same types.

    Circles, and what is nested more than 100 levels deep, are cut to ``"..."``; the function of a tool is left out.
    """
    return _encode(value, ())


def write(record: Any) -> dict[str, Any]:
    """Return a record as an object of its fields, from which ``read`` makes an equal one."""
    return _fields(record, ())


def plain(value: Any) -> Any:
    """Return ``value`` as JSON data for readers that know no tags.

    Tuples and sets become lists, bytes and keys text, NaN and infinities null, records objects with all their fields.
    """
    return untagged(encode(value))


def line_of(data: Any) -> bytes:
    """Return encoded data as one line of JSON in UTF-8, without a line end."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # half surrogates have no form in UTF-8, but an escape in JSON
        return json.dumps(data, allow_nan=False, separators=(",", ":")).encode("ascii")


def text_of(data: Any) -> str:
    """Return encoded data as one canonical text: the same for mappings that differ in the order of their keys."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


# ------------------------------------------------------------------------------------------------------------- writing


def _encode(value: Any, within: tuple[int, ...]) -> Any:
    """Encode a value of which nothing is declared; ``within`` are the values that hold it."""
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if value.bit_length() < _BITS else {_TAG: "int", "hex": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {_TAG: "float", "text": repr(value)}
    if kind in (bytes, bytearray):
        return {_TAG: kind.__name__, "base64": base64.b64encode(value).decode("ascii")}
    if id(value) in within or len(within) > _DEPTH:
        return "..."
    return _encode_inside(value, (*within, id(value)))


def _encode_inside(value: Any, within: tuple[int, ...]) -> Any:
    """Encode a value that may hold others; ``within`` are those that hold them, the value itself included."""
    kind = type(value)
    try:
        if kind is list:
            return [_encode(item, within) for item in value]
        if kind in (tuple, set, frozenset):
            items = [_encode(item, within) for item in value]
            return {_TAG: kind.__name__, "items": items if kind is tuple else sorted(items, key=text_of)}
        if _RECORDS.get(kind.__name__) is kind:
            return {_TAG: kind.__name__, **_fields(value, within)}
        if isinstance(value, Mapping):
            return _mapping(value, within)
        return _encode(_as_json(value), within)
    except Exception:  # of the value's own methods
        return f"<{kind.__name__}>"


def _mapping(value: Mapping[Any, Any], within: tuple[int, ...]) -> dict[str, Any]:
    if all(type(key) is str for key in value) and _TAG not in value:
        return {key: _encode(item, within) for key, item in value.items()}
    return {_TAG: "dict", "pairs": [[_encode(key, within), _encode(item, within)] for key, item in value.items()]}


def _as_json(value: Any) -> Any:
    """Return what stands for a value of a type that is not known here."""
    if isinstance(value, Enum):
        return value.value
    base: Any
    for base in (str, int, float, bytes):
        if isinstance(value, base):
            return base(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, _TEXTS):
        return str(value)
    for name in ("tolist", "model_dump"):  # arrays and numbers of numpy, pydantic's models
        if not isinstance(value, type) and callable(method := getattr(value, name, None)):
            return method()
    return repr(value)


def _fields(record: Any, within: tuple[int, ...]) -> dict[str, Any]:
    """The fields of a record that differ from their defaults; functions stay behind."""
    kind: Any = type(record)
    return {
        field.name: _declared(value, hint, within)
        for field, hint in _declarations(kind)
        if not _is_default(value := getattr(record, field.name), field)
    }


def _is_default(value: Any, field: Field[Any]) -> bool:
    if field.default_factory is not MISSING:
        return value == {} and type(value) is dict
    default = field.default
    if type(value) is not type(default):
        return False
    return repr(value) == repr(default) if type(value) is float else bool(value == default)  # -0.0 is not 0.0


@cache
def _declarations(kind: Any) -> tuple[tuple[Field[Any], Any], ...]:
    """The fields of a record with their types, functions left out."""
    hints = get_type_hints(kind)
    every = ((field, hints[field.name]) for field in fields(kind))
    return tuple((field, hint) for field, hint in every if get_origin(hint) is not _FUNCTION)


_FUNCTION = get_origin(Callable[..., Any])


class _Member(NamedTuple):
    """One member of a declared type: a tuple or mapping with the type of its items, a record, or a plain type."""

    shape: Literal["tuple", "mapping", "record", "plain"]
    kind: Any
    item: Any = None


@cache
def _members(hint: Any) -> tuple[_Member, ...]:
    """The members of a union, or the one type that is not a union."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(member for inner in get_args(hint) for member in _members(inner))
    if get_origin(hint) is tuple:
        return (_Member("tuple", list, get_args(hint)[0]),)
    if get_origin(hint) is _MAPPING:
        return (_Member("mapping", dict, get_args(hint)[1]),)
    return (_Member("record" if is_dataclass(hint) else "plain", hint),)


_MAPPING = get_origin(Mapping[str, Any])


def _declared(value: Any, hint: Any, within: tuple[int, ...]) -> Any:
    """Encode a value of a declared type; one of another type says so."""
    kind: Any = type(value)
    for shape, member, item in _members(hint):
        if shape == "plain" and member is str and kind is str:
            return value
        if shape == "record" and kind is member:
            return _fields(value, within)
        if shape == "tuple" and kind is tuple:
            return _items(value, item, within)
        if shape == "mapping" and kind is dict and _TAG not in value and all(type(key) is str for key in value):
            deeper = (*within, id(value))
            return {key: _declared(inner, item, deeper) for key, inner in value.items()}
    data = _encode(value, within)
    known = [member for member in _members(hint) if member.shape == "plain" or member.item is Any]
    fits = _is_tagged(data) or any(member.shape != "tuple" and _fits(data, member) for member in known)
    return data if fits else {_TAG: "value", "value": data}


def _items(value: tuple[Any, ...], hint: Any, within: tuple[int, ...]) -> list[Any]:
    # Token ids and their log-probabilities, as many as an episode has tokens.
    kinds = set(map(type, value)) if hint in (int, float) else None
    if kinds == {float} and all(map(math.isfinite, value)):
        return list(value)
    if kinds == {int} and min(value) > -(1 << 64) and max(value) < 1 << 64:
        return list(value)
    return [_declared(item, hint, within) for item in value]


def _is_tagged(data: Any) -> bool:
    return isinstance(data, dict) and _TAG in data


def _fits(data: Any, member: _Member) -> bool:
    """Tell whether JSON data without a tag may stand for a value of a declared type."""
    kind = member.kind
    if member.shape == "record":
        return isinstance(data, dict)
    if member.shape != "plain":
        return isinstance(data, kind)
    if kind is Any:
        return True
    if kind in (int, float):
        return isinstance(data, (int, float) if kind is float else int) and not isinstance(data, bool)
    if get_origin(kind) is Literal:
        return isinstance(data, str) and data in get_args(kind)
    return isinstance(data, kind)


# ------------------------------------------------------------------------------------------------------------- reading


def decode(data: Any) -> Any:
    """Return the value that ``encode`` wrote; raises ``ValueError`` on an unknown kind."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    if _TAG not in data:
        return {key: decode(item) for key, item in data.items()}
    try:
        return _tagged(data[_TAG], data)
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"a value of the kind {data[_TAG]!r} is invalid: {problem!r}") from None


def _tagged(kind: Any, data: Mapping[str, Any]) -> Any:
    match kind:
        case "tuple":
            return tuple(decode(item) for item in data["items"])
        case "set":
            return {decode(item) for item in data["items"]}
        case "frozenset":
            return frozenset(decode(item) for item in data["items"])
        case "bytes":
            return base64.b64decode(data["base64"])
        case "bytearray":
            return bytearray(base64.b64decode(data["base64"]))
        case "dict":
            return {decode(key): decode(item) for key, item in data["pairs"]}
        case "int":
            return int(data["hex"], 16)
        case "float":
            return float(data["text"])
        case "value":
            return decode(data["value"])
    if not isinstance(kind, str) or kind not in _RECORDS:
        raise ValueError(f"a value of the unknown kind {kind!r}")
    return read(_RECORDS[kind], {key: item for key, item in data.items() if key != _TAG})


def read(kind: type[T], data: Any) -> T:
    """Return the record of type ``kind`` that ``write`` wrote; unknown fields are ignored.

    Raises ``ValueError`` for data that does not fit the record, naming the field.
    """
    if not isinstance(data, dict):
        raise ValueError(f"a record {kind.__name__} is an object, not {type(data).__name__}")
    known: Any = kind
    given: dict[str, Any] = {"run": _unable} if known is Tool else {}
    for field, hint in _declarations(known):
        if field.name in data:
            given[field.name] = _read(data[field.name], hint, f"{kind.__name__}.{field.name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{kind.__name__}.{field.name} is missing")
    return kind(**given)


def _read(data: Any, hint: Any, where: str) -> Any:
    if _is_tagged(data):
        return decode(data)
    for member in _members(hint):
        if not _fits(data, member):
            continue
        if member.shape == "tuple":
            if member.item in (int, float) and set(map(type, data)) == {member.item}:
                return tuple(data)
            return tuple(_read(part, member.item, where) for part in data)
        if member.shape == "mapping":
            return {key: _read(part, member.item, where) for key, part in data.items()}
        return read(member.kind, data) if member.shape == "record" else decode(data)
    raise ValueError(f"{where} cannot be {json.dumps(data)[:100]}")


def _unable(**_: Any) -> Observation:
    return Observation("this tool was read from a record and cannot be run", "refused")


def untagged(data: Any) -> Any:
    """Return encoded data without its tags, as ``plain`` does for values."""
    if isinstance(data, str):
        return clean(data)
    if isinstance(data, list):
        return [untagged(item) for item in data]
    if not isinstance(data, dict):
        return data
    kind = data.get(_TAG)
    if kind in ("tuple", "set", "frozenset") and isinstance(data.get("items"), list):
        return untagged(data["items"])
    if kind in ("bytes", "bytearray"):
        return base64.b64decode(data.get("base64", "")).decode("utf-8", "replace")
    if kind == "dict":
        return {_key(key): untagged(item) for key, item in data.get("pairs", ())}
    if kind in ("int", "float", "value"):
        return data.get("hex") if kind == "int" else untagged(data.get("value"))
    given = {clean(key): untagged(item) for key, item in data.items() if kind is None or key != _TAG}
    return {**(_defaults(_RECORDS[kind]) if kind in _RECORDS else {}), **given}


def _key(data: Any) -> str:
    key = untagged(data)
    return key if isinstance(key, str) else text_of(key)


@cache
def _defaults(kind: Any) -> dict[str, Any]:
    """The fields of a record that have a default, as JSON data, in the order of all fields."""
    return {
        field.name: untagged(encode(field.default)) if field.default is not MISSING else {}
        for field, _ in _declarations(kind)
        if field.default is not MISSING or field.default_factory is not MISSING
    }
