"""What the native call forms of model families share: the tools' text, and arguments that are JSON up to a mark."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ferrule.chat.describe import Style, fields, json_value, listing, template
from ferrule.chat.objects import arguments_from
from ferrule.chat.parsing import MAX_CALLS, defuse, measure, mended, open_ended, parse_json, parse_prefix
from ferrule.chat.scan import THINK_CLOSE, UNFINISHED, Found, Marks
from ferrule.chat.untyped import safe
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = [
    "Body",
    "about",
    "body_of",
    "check_name",
    "first_mark",
    "framed",
    "json_body",
    "json_text",
    "one_block",
    "skip",
]

_SHOW = ("<tool_response>", "</tool_response>")
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True)
class Body:
    """The arguments of a call as read: where they end, the mark there ("" at the end of the text), and liberties."""

    stop: int
    mark: str = ""
    arguments: dict[str, Any] | None = None
    repairs: tuple[str, ...] = ()
    problem: str = ""

    def call(self, name: str, raw: str, repairs: Sequence[str] = (), identity: str = "") -> Call:
        """Return the call of that name with these arguments."""
        notes = tuple(dict.fromkeys([*repairs, *self.repairs]))
        problem = self.problem or ("" if name else "the call has no name")
        arguments = {} if problem else self.arguments or {}
        return Call(name, arguments, id=identity, raw=raw, problem=problem, repairs=notes)


def body_of(text: str, at: int, end: str, values: dict[str, Any], notes: Sequence[str]) -> Body:
    """Return the parameters that were read one by one up to ``at``, where the mark ``end`` of their call belongs."""
    problem, broken = measure(values)
    if problem:
        return Body(at, "", None, tuple(notes), problem)
    if broken:
        notes, values = [*notes, "unicode"], mended(values)
    if text.startswith(end, at):
        return Body(at + len(end), end, values, tuple(notes))
    return Body(at, "", values, (*notes, UNFINISHED if at == len(text) else "no closing tag"))


def about(
    tools: Sequence[Tool],
    style: Style,
    write: Callable[[Message], str],
    how: str,
    value: Callable[[Any], str] = json_value,
) -> str:
    """Return the text about the tools: the listing in a style, and how to call one; empty without tools.

    ``write`` and ``value`` are how the codec writes a message, and a value in a template of a call.
    """
    if not tools:
        return ""
    shown = listing(tools, style, lambda tool: template(tool, write, fields(tool, value)))
    return f"Tools:\n{shown}" + ("" if style == "call" else f"\n{how}")


def framed(message: Message) -> str:
    """Return a result between ``<tool_response>`` tags, as it is but for such tags in it.

    Chat templates that have a form of their own for results write that; this one stands where they have none.
    """
    return f"{_SHOW[0]}\n{defuse(plain_text(message), *_SHOW)}\n{_SHOW[1]}"


def skip(text: str, at: int) -> int:
    """Return the index of the first character at or after ``at`` that is no blank."""
    space = _SPACE.match(text, at)
    return space.end() if space else at


def first_mark(text: str, marks: Sequence[str], at: int) -> tuple[int, str]:
    """Return where the first of the marks stands at or after ``at``, and which; the end of the text and "" if none."""
    places = [(place, mark) for mark in marks if (place := text.find(mark, at)) >= 0]
    return min(places, default=(len(text), ""))


def json_text(value: Any, *marks: str) -> str:
    """Write JSON in which neither the marks of a form nor those of thinking stand."""
    return safe(value, THINK_CLOSE, *marks)


def json_body(text: str, begin: int, ends: Marks, *, closes_itself: bool = False) -> Body:
    """Read the JSON arguments that begin at ``begin`` and reach to the first of the marks ``ends`` after them.

    ``closes_itself`` says that the form needs no mark where the JSON is whole.
    """
    read = parse_prefix(text, skip(text, begin))
    tail = read[1] if read is not None else begin
    end, mark = ends.first(tail)
    written, rest = text[begin:end], text[tail:end].strip()
    open_end = not mark and (read is None or not closes_itself)
    notes = [UNFINISHED] if open_end and (not closes_itself or open_ended(written)) else []
    if not written.strip():
        return Body(end, mark, {}, ("no arguments", *notes))
    parsed = read[0] if read is not None else parse_json(written)
    notes = [*parsed.repairs, *notes]
    if read is not None and rest:
        if any(bracket in rest for bracket in "{["):
            return Body(end, mark, None, tuple(notes), "more than one JSON value stands where the arguments belong")
        notes.append("trailing text")
    if parsed.problem:
        return Body(end, mark, None, tuple(notes), parsed.problem)
    arguments, more, problem = arguments_from(parsed.value)
    return Body(end, mark, arguments, (*notes, *more), problem)


def one_block(text: str, block: tuple[int, int], calls: Sequence[Found]) -> list[Found]:
    """Return the calls of one block, whose range they divide; a malformed one makes the block one malformed call."""
    start, stop = block
    broken = next((call for _, _, call in calls if call.problem), None)
    if len(calls) > MAX_CALLS:
        broken = Call("", problem=f"more than {MAX_CALLS} calls in one message")
    if broken is not None or not calls:
        call = broken or Call("", problem="the block holds no call")
        repairs = tuple(dict.fromkeys(note for _, _, one in calls for note in one.repairs))
        return [(start, stop, replace(call, arguments={}, raw=text[start:stop], repairs=repairs))]
    edges = [start, *(at for at, _, _ in calls[1:]), stop]
    pairs = zip(calls, edges[:-1], edges[1:], strict=True)
    return [(a, b, replace(call, raw=text[a:b].strip() or text[a:b])) for (_, _, call), a, b in pairs]


def check_name(name: str, form: str, invalid: str = "<>{}[]\n") -> str:
    """Return a name that the form can carry; one that is empty, padded or holds ``invalid`` is a ``ValueError``."""
    if not name or name != name.strip() or any(letter in invalid for letter in name):
        raise ValueError(f"the {form} codec cannot write the name {name!r}: it must be text without {invalid!r}")
    return name
