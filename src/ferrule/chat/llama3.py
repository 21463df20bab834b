"""The form of Llama 3.1 to 3.3: a bare JSON object with ``parameters``, or code after ``<|python_tag|>``."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style
from ferrule.chat.native import about, first_mark, framed, json_text, one_block, skip
from ferrule.chat.objects import call_from
from ferrule.chat.parsing import MAX_CALLS, Parsed, open_ended, parse_json, parse_row
from ferrule.chat.scan import THINK_CLOSE, THINK_OPEN, UNFINISHED, Found, Scan, assemble, join, label, scan
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "Llama3"]

_TAG = "<|python_tag|>"
_ENDS = ("<|eom_id|>", "<|eot_id|>")
_STARTS = re.compile(r'<\|python_tag\|>|^[ \t]{0,20}\{\s{0,20}"(?:name|type|function)"\s{0,20}:', re.MULTILINE)
_BUILT_IN = re.compile(r"\s*([A-Za-z_]\w{0,63})\.call\(")
_ARGUMENTS = {"parameters", "arguments"}
_HOW = 'To call one, reply with {"name": function name, "parameters": dictionary of argument name and its value}.'


@dataclass(frozen=True)
class Llama3:
    """Calls as ``{"name": ..., "parameters": {...}}`` on a line of their own, several in a row.

    After ``<|python_tag|>`` stands such an object, a call of a built-in tool (``search.call(query="x")``) or plain
    code, which is read as a call of ``python`` with the argument ``code``. An object is a call where the reply begins
    with it, and later in a text where it has ``parameters`` or ``arguments``.
    """

    style: Style = "json"
    name: str = field(default="llama3", init=False)
    inline: bool = field(default=False, init=False)
    stop: tuple[str, ...] = field(default=("<|eom_id|>",), init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown style."""
        check_style(self.style)

    def describe(self, tools: Sequence[Tool]) -> str:
        """Return the tools and how one is called."""
        return about(tools, self.style, self.write, _HOW)

    def write(self, message: Message) -> str:
        """Return the content, then one object per call."""
        return join(plain_text(message), [_object(call) for call in message.calls])

    def read(self, text: str) -> Message:
        """Return content and calls; broken objects are repaired or become malformed calls."""
        return assemble(text, _scan(text).calls)

    def show(self, message: Message) -> str:
        """Return the result between ``<tool_response>`` tags."""
        return framed(message)

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label thinking, calls and answer."""
        return label(text, _scan(text))


def _object(call: Call) -> str:
    if call.problem and call.raw:
        return call.raw
    return json_text({"name": call.name, "parameters": dict(call.arguments)}, _TAG, *_ENDS)


def _scan(text: str) -> Scan:
    def opens(at: int) -> int:
        mark = _STARTS.search(text, at)
        return mark.start() if mark else -1

    return scan(text, opens, lambda start: _one(text, start))


def _one(text: str, start: int) -> tuple[int, list[Found]]:
    """Read what begins at ``start``; return the index after it, and its calls."""
    tagged = text.startswith(_TAG, start)
    begin = skip(text, start + len(_TAG) if tagged else start)
    if tagged and not text.startswith("{", begin):
        return _code(text, start)
    row = parse_row(text, begin)
    if not row:
        end, mark = first_mark(text, (*_ENDS, THINK_OPEN, THINK_CLOSE), begin)
        parsed = parse_json(text[begin:end])
        notes = [UNFINISHED] if not mark and open_ended(text[begin:end]) else []
        return end + (len(mark) if mark in _ENDS else 0), [(start, end, call_from(parsed, text[start:end], notes))]
    if not tagged and not _meant(text, start, row):
        return row[-1][2], []
    if len(row) > MAX_CALLS:
        problem = f"more than {MAX_CALLS} calls in one message"
        return len(text), [(start, len(text), Call("", raw=text[start:], problem=problem))]
    stop = row[-1][2]
    after = skip(text, stop)
    stop = next((after + len(end) for end in _ENDS if text.startswith(end, after)), stop)
    calls = [(a, b, _read(parsed, text[a:b])) for parsed, a, b in row]
    return stop, one_block(text, (start, stop), calls)


def _meant(text: str, start: int, row: Sequence[tuple[Parsed, int, int]]) -> bool:
    """Say whether objects that nothing marks are calls."""
    before = start
    while before and text[before - 1].isspace():
        before -= 1
    begins = not before or text.endswith(THINK_CLOSE, 0, before)
    objects = [parsed.value for parsed, _, _ in row if isinstance(parsed.value, dict)]
    return len(objects) == len(row) and (begins or all(_ARGUMENTS & set(_inner(value)) for value in objects))


def _inner(value: dict[str, Any]) -> dict[str, Any]:
    return value["function"] if isinstance(value.get("function"), dict) else value


def _read(parsed: Parsed, raw: str) -> Call:
    """Read one object; ``parameters`` is the form's own word and no repair."""
    call = call_from(parsed, raw)
    return replace(call, repairs=tuple(note for note in call.repairs if note != "parameters"))


def _code(text: str, start: int) -> tuple[int, list[Found]]:
    """Read code after the tag: a call of a built-in tool, or a program; it reaches to the end of the turn."""
    begin = start + len(_TAG)
    end, mark = first_mark(text, (*_ENDS, _TAG, THINK_OPEN, THINK_CLOSE), begin)
    stop = end + (len(mark) if mark in _ENDS else 0)
    code, raw = text[begin:end], text[start:stop]
    notes = ("python tag",) if mark else ("python tag", UNFINISHED)
    named = _BUILT_IN.match(code)
    if named is None:
        if not code.strip():
            return stop, [
                (start, stop, Call("", raw=raw, problem="nothing stands after <|python_tag|>", repairs=notes))
            ]
        code = code.encode("utf-8", "replace").decode()
        return stop, [(start, stop, Call("python", {"code": code.strip()}, raw=raw, repairs=notes))]
    try:
        made = ast.parse(code.strip(), mode="eval").body
        assert isinstance(made, ast.Call)
        arguments = {str(word.arg): ast.literal_eval(word.value) for word in made.keywords}
        problem = "arguments of a built-in tool need their names" if made.args or "None" in arguments else ""
        call = Call(named[1], {} if problem else arguments, raw=raw, problem=problem, repairs=notes)
        json_text(arguments)
    except (SyntaxError, ValueError, AssertionError, RecursionError, MemoryError, TypeError) as error:
        call = Call(named[1], raw=raw, problem=f"not a call with plain values ({error})", repairs=notes)
    return stop, [(start, stop, call)]


CODEC = Llama3
