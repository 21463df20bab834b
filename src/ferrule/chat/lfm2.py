"""The form of LFM2 and LFM2.5: Python calls with named arguments, in one list between marks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style
from ferrule.chat.lfm2_values import Reader
from ferrule.chat.native import about, check_name, first_mark, json_text, one_block, skip
from ferrule.chat.objects import call_from
from ferrule.chat.parsing import MAX_CALLS, defuse, parse_row
from ferrule.chat.scan import THINK_CLOSE, UNFINISHED, Found, Scan, assemble, join, label, scan
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "Lfm2"]

_OPEN, _CLOSE = "<|tool_call_start|>", "<|tool_call_end|>"
_RESULT, _RESULT_END = "<|tool_response_start|>", "<|tool_response_end|>"
_MARKS = (_OPEN, _CLOSE, THINK_CLOSE)
_NAMED = re.compile(r"\s{0,9}([^\s()\[\]{}<>,='\"]{1,200})\s{0,9}\(")
_ESCAPES = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r"}
_INVALID = "()[]{}<>,='\" \t\r\n"
_HOW = f"To call some, write {_OPEN}[name(number=3, text='...')]{_CLOSE}"


@dataclass(frozen=True)
class Lfm2:
    """Calls as ``<|tool_call_start|>[search(query='Rome', top=3), now()]<|tool_call_end|>``.

    Text is a Python string, numbers, ``True``, ``False`` and ``None`` are as in Python, lists and objects are JSON. A
    list of JSON objects with names and arguments is read as well.
    """

    LISTS: ClassVar[str] = "<|tool_list_start|>"
    """The mark before the tools in a template of the family that writes no calls given as data."""

    style: Style = "json"
    name: str = field(default="lfm2", init=False)
    inline: bool = field(default=False, init=False)
    stop: tuple[str, ...] = field(default=(_CLOSE,), init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown style."""
        check_style(self.style)

    def describe(self, tools: Sequence[Tool]) -> str:
        """Return the tools and how one is called."""
        return about(tools, self.style, self.write, _HOW)

    def write(self, message: Message) -> str:
        """Return the content, then the list of calls; malformed ones stand as they were."""
        texts: list[str] = []
        row: list[str] = []
        for call in (*message.calls, None):
            if call is not None and not (call.problem and call.raw):
                row.append(_written(call))
                continue
            if row:
                texts.append(f"{_OPEN}[{', '.join(row)}]{_CLOSE}")
                row = []
            if call is not None:
                texts.append(call.raw)
        return join(plain_text(message), texts, "")

    def read(self, text: str) -> Message:
        """Return content and calls; broken ones are repaired or become malformed calls."""
        return assemble(text, _scan(text).calls, "")

    def show(self, message: Message) -> str:
        """Return the result between the family's marks, as it is but for such marks in it."""
        return f"{_RESULT}{defuse(plain_text(message), _RESULT, _RESULT_END)}{_RESULT_END}"

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label thinking, calls and answer."""
        return label(text, _scan(text))


def _written(call: Call) -> str:
    name = check_name(call.name, "lfm2", _INVALID)
    pairs = [f"{check_name(key, 'lfm2', _INVALID)}={_value(value)}" for key, value in call.arguments.items()]
    return f"{name}({', '.join(pairs)})"


def _value(value: Any) -> str:
    if isinstance(value, str):
        text = "".join(_ESCAPES.get(letter, letter) for letter in value)
        for mark in (*_MARKS, "</"):  # no mark may stand in a text
            text = text.replace(mark, f"\\x{ord(mark[0]):02x}{mark[1:]}")
        return f"'{text}'"
    if isinstance(value, Mapping | list | tuple):
        return json_text(value, *_MARKS)
    return repr(value) if value is None or isinstance(value, bool) else json_text(value)


def _scan(text: str) -> Scan:
    return scan(text, lambda at: text.find(_OPEN, at), lambda start: _one(text, start))


def _one(text: str, start: int) -> tuple[int, list[Found]]:
    """Read the block that opens at ``start``; return the index after it, and its calls."""
    begin = start + len(_OPEN)
    end, mark = first_mark(text, (_CLOSE, _OPEN), begin)
    if mark != _CLOSE:
        end, mark = first_mark(text, (_OPEN, THINK_CLOSE), begin)
    stop = end + len(_CLOSE) if mark == _CLOSE else max(len(text[:end].rstrip()), start + 1)
    row, repairs = _body(text[begin:end])
    repairs += [] if mark == _CLOSE else ["no closing mark" if mark else UNFINISHED]
    calls = [(begin + a, begin + b, call) for a, b, call in row]
    a, b, last = calls[-1]
    calls[-1] = (a, b, replace(last, repairs=tuple(dict.fromkeys([*last.repairs, *repairs]))))
    return stop, one_block(text, (start, stop), calls)


def _body(text: str) -> tuple[list[Found], list[str]]:
    """Return the calls between the marks, one at least, and the liberties taken with the list around them."""
    at = skip(text, 0)
    listed = text.startswith("[", at)
    at = skip(text, at + listed)
    if text.startswith("{", at):
        row = [(a, b, call_from(parsed, text[a:b], ("JSON",))) for parsed, a, b in parse_row(text, at)]
        at = row[-1][1] if row else at
    else:
        row, at = _row(text, at)
    at = skip(text, at)
    closed = text.startswith("]", at)
    rest = text[at + closed :].strip()
    if rest and not any(call.problem for _, _, call in row):
        row = [*row, (at, len(text), Call("", problem=f"{rest[:40]!r} stands where a call belongs"))]
    if not row:
        row = [(0, len(text), Call("", problem="no name( at the beginning of a call"))]
    return row, [] if listed and closed else ["no brackets"]


def _row(text: str, at: int) -> tuple[list[Found], int]:
    """Read calls with commas between them; return them and where the reading ended."""
    calls: list[Found] = []
    while len(calls) <= MAX_CALLS and (named := _NAMED.match(text, at)) is not None:
        reader = Reader(text, named.end())
        arguments = reader.arguments()
        calls.append((at, reader.at, reader.call(named[1], arguments, text[at : reader.at])))
        at = skip(text, reader.at)
        if reader.problem or not text.startswith(",", at):
            break
        at = skip(text, at + 1)
    return calls, at


CODEC = Lfm2
