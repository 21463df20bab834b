"""Settings as one writes them behind a name: ``field=value,...``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ferrule.core.arrays import nearest

__all__ = ["field_types", "settings_from_text"]

_NUMBERS = {"int": int, "float": float}
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def field_types(kind: type[Any]) -> dict[str, str]:
    """Return the fields that a data class is built from, with their types as the source has them; else none."""
    if not is_dataclass(kind):
        return {}
    return {field.name: str(field.type) for field in fields(kind) if field.init}


def settings_from_text(
    name: str, kind: type[Any], text: str, choices: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Return the keywords that ``field=value,...`` names for the data class ``kind``, which is called ``name``.

    Fields may hold whole numbers, numbers, texts and truth values (``true``, ``false``); ``choices`` gives further
    types, with what each word stands for. Raises ``ValueError`` naming what is there, and for a field that is named
    twice.
    """
    types, named = field_types(kind), choices or {}
    known = [field for field, of in types.items() if of in (*_KINDS, "str", *named)]
    chosen: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if key in types and (not equals or key in chosen):
            why = f"{key!r} is set twice" if key in chosen else f"{key!r} has no value; write {key}=VALUE"
            raise ValueError(f"{name}: {why}")
        if key not in types:
            raise ValueError(f"{part!r} is no setting of {name!r}; write field=value, {nearest(key, known)}")
        chosen[key] = _read(f"{name}:{key}", value, types[key], named)
    return chosen


def _read(where: str, value: str, of: str, choices: Mapping[str, Mapping[str, Any]]) -> Any:
    if of in choices:
        if value not in choices[of]:
            raise ValueError(f"{where}={value} is unknown; {nearest(value, list(choices[of]))}")
        return choices[of][value]
    if of == "bool" and value in ("true", "false"):
        return json.loads(value)
    if of == "str":
        return value
    try:
        number = _NUMBERS[of](value)
        if isinstance(number, float) and math.isnan(number):
            raise ValueError
        return number
    except (KeyError, ValueError):
        field = where.rpartition(":")[2]
        raise ValueError(f"{where} is {value!r}; {field} is {_KINDS.get(of, 'set from Python only')}") from None
