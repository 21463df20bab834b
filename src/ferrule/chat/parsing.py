"""Reading JSON that a model wrote: strict first, then repaired with every liberty named, never an exception."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "MAX_CALLS",
    "MAX_DEPTH",
    "MAX_REPAIR",
    "Number",
    "Parsed",
    "defuse",
    "dump",
    "measure",
    "mended",
    "open_ended",
    "parse_json",
    "parse_prefix",
    "parse_row",
]

MAX_CALLS = 64
"""Most calls read from one message; the text past them becomes one malformed call (keeps reading linear)."""
MAX_DEPTH = 64
"""Deepest nesting of JSON arguments."""
MAX_REPAIR = 8_000
"""Longest broken JSON text, in characters, that is repaired; longer ones are malformed."""
MAX_BRACKETS = 100
"""Most opening brackets in a broken JSON text that is repaired (the repair takes quadratic time in them)."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_BETWEEN = re.compile(r"[\s,;]*")
_ZEROS = re.compile(r"0\d[\d.]*")
_STRING = re.compile(r"""(?s)"(?:[^"\\]|\\.)*"|(?<=[:,{\[\s])'(?:[^'\\]|\\.)*'(?=\s*[:,}\]])""")
_QUOTE = re.compile(r"[:,{\[]\s*'")


@dataclass(frozen=True)
class Parsed:
    """A JSON value with the repairs it took, or the problem that makes it unreadable.

    ``doubled`` are the keys that the outermost object has twice.
    """

    value: Any = None
    repairs: tuple[str, ...] = ()
    problem: str = ""
    doubled: frozenset[str] = frozenset()


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


def mended(value: Any) -> Any:
    """Return a JSON value with U+FFFD in place of broken unicode (surrogates)."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {mended(k): mended(v) for k, v in value.items()}
    return [mended(v) for v in value] if isinstance(value, list) else value


class _NotJson(ValueError):
    """Raised on the constants NaN, Infinity and -Infinity."""


class Number(float):
    """A number whose text is not the one that would be written for it: ``1e5``, ``1.10``.

    It is a float like any other; a parameter that is text takes ``written``.
    """

    written: str


def _number(text: str) -> float:
    plain = float(text)
    if repr(plain) == text:
        return plain
    number = Number(text)
    number.written = text
    return number


def _decoder(repairs: list[str], doubled: set[str]) -> json.JSONDecoder:
    """Return a decoder that notes repairs; ``doubled`` holds the keys that the object read last has twice."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(items)
        doubled.clear()
        if len(entries) < len(items):
            doubled.update(key for key, count in Counter(key for key, _ in items).items() if count > 1)
            if "duplicate key" not in repairs:
                repairs.append("duplicate key")
        return entries

    def constant(name: str) -> Any:
        raise _NotJson(f"{name} is not a JSON number")

    return json.JSONDecoder(object_pairs_hook=pairs, parse_constant=constant, parse_float=_number)


def _checked(value: Any, repairs: Sequence[str], doubled: Iterable[str] = ()) -> Parsed:
    problem, broken = measure(value)
    if problem:
        return Parsed(None, tuple(repairs), problem)
    if broken:
        return Parsed(mended(value), (*repairs, "unicode"), doubled=frozenset(doubled))
    return Parsed(value, tuple(repairs), doubled=frozenset(doubled))


def parse_prefix(text: str, start: int) -> tuple[Parsed, int] | None:
    """Read one strict JSON value at ``start``; return it with the index after it, or None when there is none."""
    repairs: list[str] = []
    doubled: set[str] = set()
    try:
        value, end = _decoder(repairs, doubled).raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return _checked(value, repairs, doubled), end


def parse_row(text: str, start: int) -> list[tuple[Parsed, int, int]]:
    """Read strict JSON values that follow each other from ``start`` on, with their ranges.

    Blanks, commas and semicolons may stand between them. Reading ends where no further object or list begins, and with
    the first value that is neither, which stands alone.
    """
    values: list[tuple[Parsed, int, int]] = []
    at = start
    while len(values) <= MAX_CALLS and (read := parse_prefix(text, at)) is not None:
        values.append((read[0], at, read[1]))
        between = _BETWEEN.match(text, read[1])
        at = between.end() if between is not None else read[1]
        if not isinstance(values[-1][0].value, dict | list) or text[at : at + 1] not in ("{", "["):
            break
    return values


def parse_json(text: str) -> Parsed:
    """Read a whole text as JSON; broken text is repaired (``repairs`` says how) or given a ``problem``."""
    repairs: list[str] = []
    doubled: set[str] = set()
    try:
        return _checked(_decoder(repairs, doubled).decode(text), repairs, doubled)
    except _NotJson as error:
        return Parsed(problem=str(error))
    except (ValueError, RecursionError) as error:
        return _repaired(text, str(error))


def open_ended(text: str) -> bool:
    """Say whether a broken JSON text ends before its outermost value does, as far as quotes and brackets tell."""
    rest = _STRING.sub("", text)
    opened = rest.count("{") + rest.count("[") - rest.count("}") - rest.count("]")
    unclosed = '"' in rest or _QUOTE.search(rest) is not None
    return unclosed or opened > 0 or not rest.rstrip().endswith(("}", "]"))


def _roots(text: str) -> int:
    """Count the outermost objects and lists of a broken text."""
    roots = depth = 0
    for letter in text:
        if letter in "{[":
            roots, depth = roots + (depth == 0), depth + 1
        elif letter in "}]":
            depth = max(0, depth - 1)
    return roots


def _quoted(text: str) -> str:
    """Put numbers with zeros in front into quotes: they are text that was meant, and no JSON number."""
    for _ in range(MAX_BRACKETS):
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            number = _ZEROS.match(text, max(error.pos - 1, 0))
            if number is None or (error.pos > 1 and text[error.pos - 2 : error.pos - 1].isalnum()):
                return text
            begin = number.start() - (text[number.start() - 1 : number.start()] == "-")
            text = f'{text[:begin]}"{text[begin : number.end()]}"{text[number.end() :]}'
        except (ValueError, RecursionError):
            return text
        else:
            return text
    return text


def _repaired(text: str, why: str) -> Parsed:
    if not text.strip():
        return Parsed(problem="empty call")
    if len(text) > MAX_REPAIR or text.count("{") + text.count("[") > MAX_BRACKETS:
        return Parsed(problem=f"broken JSON, too long to repair ({why})")
    if _roots(text) > 1:
        return Parsed(problem=f"several JSON values, and broken ones among them ({why})")
    import json_repair

    try:
        value = json_repair.loads(_quoted(text), skip_json_loads=True)
    except Exception:  # it is made for what is nearly JSON, and what it raises on other texts is not said
        return Parsed(problem=f"broken JSON ({why})")
    if not isinstance(value, dict | list) or not value:
        return Parsed(problem=f"not a JSON object ({why})")
    repairs = ["json"]
    if re.search(r"[{\[,:]\s*'", text):
        repairs.append("single quotes")
    return _checked(value, repairs)


def defuse(text: str, *markers: str) -> str:
    """Break every marker inside foreign text with a space after its first character, so that it closes nothing."""
    for marker in markers:
        if marker and marker in text:
            text = text.replace(marker, f"{marker[0]} {marker[1:]}")
    return text
