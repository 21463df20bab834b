"""An append-only file of JSON lines that holds Python values exactly: what cassettes are written on.

JSON data stands as it is. What JSON cannot tell apart (tuples, bytes, sets, keys that are no text, the records of
``core``) is an object whose key ``"!"`` names the kind. A value of any other type is kept as episode files keep it:
as JSON data where it has such a form, else as its ``repr``.
"""

from __future__ import annotations

import base64
import json
import math
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from ferrule.core.records import Artifact, Call, Image, Message, Observation, Reply, Span, Tool

__all__ = ["Tape", "decode", "encode", "read", "text_of"]

_TAG = "!"
_RECORDS: dict[str, type] = {
    kind.__name__: kind for kind in (Artifact, Call, Image, Message, Observation, Reply, Span, Tool)
}
_DEPTH = 100
_BITS = 10_000  # JSON readers refuse numbers of more than 4,300 digits


def _unable(**_: Any) -> Observation:
    return Observation("this tool was read from a cassette and cannot be run", "refused")


def encode(value: Any) -> Any:
    """Return ``value`` as JSON data from which ``decode`` makes an equal value of the same types.

    Circles, and what lies more than 100 levels deep, are cut to ``"..."``.
    """
    return _encode(value, ())


def _encode(value: Any, within: tuple[int, ...]) -> Any:
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
    """Encode a value that holds others; ``within`` are those that hold it, itself included."""
    kind = type(value)
    if kind is list:
        return [_encode(item, within) for item in value]
    if kind in (tuple, set, frozenset):
        items = [_encode(item, within) for item in value]
        return {_TAG: kind.__name__, "items": items if kind is tuple else sorted(items, key=text_of)}
    if isinstance(value, Mapping):
        if all(type(key) is str for key in value) and _TAG not in value:
            return {key: _encode(item, within) for key, item in value.items()}
        return {_TAG: "dict", "pairs": [[_encode(key, within), _encode(item, within)] for key, item in value.items()]}
    if is_dataclass(value) and _RECORDS.get(kind.__name__) is kind:
        return {_TAG: kind.__name__, **_fields(value, within)}
    return _as_json(value)


def _fields(record: Any, within: tuple[int, ...]) -> dict[str, Any]:
    """The fields of a record that differ from their defaults; a tool's function stays behind."""
    out = {}
    for field in fields(record):
        value = getattr(record, field.name)
        plain = field.default is not MISSING and repr(value) == repr(field.default)
        if not plain and not (isinstance(record, Tool) and field.name == "run"):
            out[field.name] = _encode(value, within)
    return out


def _as_json(value: Any) -> Any:
    try:
        return json.loads(json.dumps(to_jsonable_python(value, fallback=repr, bytes_mode="utf8")))
    except (ValueError, TypeError, RecursionError):
        return f"<{type(value).__name__}>"


def decode(data: Any) -> Any:
    """Return the value that ``encode`` wrote; raises ``ValueError`` on a kind it does not know."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    if _TAG not in data:
        return {key: decode(item) for key, item in data.items()}
    kind = data[_TAG]
    if kind in ("tuple", "set", "frozenset"):
        make: Any = {"tuple": tuple, "set": set, "frozenset": frozenset}[kind]
        return make(decode(item) for item in data["items"])
    if kind in ("bytes", "bytearray"):
        raw = base64.b64decode(data["base64"])
        return raw if kind == "bytes" else bytearray(raw)
    if kind == "dict":
        return {decode(key): decode(item) for key, item in data["pairs"]}
    if kind == "int":
        return int(data["hex"], 16)
    if kind == "float":
        return float(data["text"])
    if kind not in _RECORDS:
        raise ValueError(f"a cassette holds a value of the unknown kind {kind!r}")
    given = {key: decode(item) for key, item in data.items() if key != _TAG}
    return _RECORDS[kind](**given, **({"run": _unable} if kind == "Tool" else {}))


def text_of(data: Any) -> str:
    """Return encoded data as one canonical text: the same for mappings that differ in the order of their keys."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


class Tape:
    """Appends rows to a file, each in one write of its own: a run that is killed loses none it has written.

    A last line that an earlier run did not finish is cut off first. Safe in several threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        os.ftruncate(self._file, _whole(path))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row of JSON data; raises ``ValueError`` after ``close``."""
        line = (json.dumps(row, separators=(",", ":")) + "\n").encode("ascii")
        with self._lock:
            if self._file < 0:
                raise ValueError(f"the cassette {self.path} is closed")
            while line:
                line = line[os.write(self._file, line) :]

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1


def _whole(path: Path) -> int:
    """Length in bytes of the finished lines of a file."""
    with path.open("rb") as file:
        return sum(len(line) for line in file if line.endswith(b"\n"))


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ``(line number, row)`` of a tape; a cut-off last line is left out, a broken one raises ``ValueError``."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: not a line of a cassette: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: not a line of a cassette")
            yield number, row
