"""The form of Mistral models: ``[TOOL_CALLS]`` before a JSON list, or before a name and ``[ARGS]``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style
from ferrule.chat.native import about, framed, json_body, json_text, one_block, skip
from ferrule.chat.objects import call_from
from ferrule.chat.parsing import MAX_CALLS, open_ended, parse_json, parse_prefix, parse_row
from ferrule.chat.scan import THINK_CLOSE, THINK_OPEN, UNFINISHED, Found, Marks, Scan, assemble, join, label, scan
from ferrule.core.arrays import nearest
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "IDENTITY", "Mistral"]

IDENTITY = re.compile(r"[A-Za-z0-9]{9}")
"""What the id of a call is to these models: nine letters and digits."""

_CALLS, _ARGS, _ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_MARKS = (_CALLS, _ARGS, _ID)
_WORD = r"\s{0,9}([^\s\[\]{}]{1,200})\s{0,9}"
_NAMED = re.compile(rf"{_WORD}(?:\[CALL_ID\]{_WORD})?(?:\[ARGS\]|(?=\{{))")
_ENDS = (_CALLS, THINK_OPEN, THINK_CLOSE)
_HOWS = {
    "list": 'To call some, end the reply with [TOOL_CALLS][{"name": name, "arguments": {...}}]',
    "args": "To call one, end the reply with [TOOL_CALLS]name[ARGS]{...}",
}


@dataclass(frozen=True)
class Mistral:
    """Calls behind ``[TOOL_CALLS]``, in one of two forms; both are read.

    ``form="list"`` writes one list of objects with name, arguments and, where it has nine letters and digits, id
    (tokenizers up to version 7); ``"args"`` writes ``[TOOL_CALLS]name[ARGS]{...}`` per call, with ``[CALL_ID]id``
    before ``[ARGS]`` where there is one (from version 11 on).
    """

    FORMS: ClassVar[tuple[dict[str, str], ...]] = ({"form": "list"}, {"form": "args"})

    style: Style = "json"
    form: str = "list"
    name: str = field(default="mistral", init=False)
    inline: bool = field(default=False, init=False)
    stop: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown style or form."""
        check_style(self.style)
        if self.form not in _HOWS:
            raise ValueError(f"unknown form of Mistral calls {self.form!r}; {nearest(self.form, list(_HOWS))}")

    def describe(self, tools: Sequence[Tool]) -> str:
        """Return the tools and how one is called."""
        return about(tools, self.style, self.write, _HOWS[self.form])

    def write(self, message: Message) -> str:
        """Return the content, then the calls."""
        texts: list[str] = []
        objects: list[str] = []
        for call in (*message.calls, None):
            if call is not None and self.form == "list" and not (call.problem and call.raw):
                objects.append(_object(call))
                continue
            if objects:
                texts.append(f"{_CALLS}[{', '.join(objects)}]")
                objects = []
            if call is not None:
                texts.append(call.raw if call.problem and call.raw else _block(call))
        return join(plain_text(message), texts, "")

    def read(self, text: str) -> Message:
        """Return content and calls; broken ones are repaired or become malformed calls."""
        return assemble(text, _scan(text).calls, "")

    def show(self, message: Message) -> str:
        """Return the result between ``<tool_response>`` tags."""
        return framed(message)

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label thinking, calls and answer."""
        return label(text, _scan(text))


def _object(call: Call) -> str:
    identity = {"id": call.id} if IDENTITY.fullmatch(call.id) else {}
    return json_text({"name": call.name, "arguments": dict(call.arguments), **identity}, *_MARKS)


def _block(call: Call) -> str:
    identity = f"{_ID}{call.id}" if IDENTITY.fullmatch(call.id) else ""
    if re.fullmatch(r"[^\s\[\]{}]{1,200}", call.name) is None:
        return f"{_CALLS}[{_object(call)}]"
    return f"{_CALLS}{call.name}{identity}{_ARGS}{json_text(dict(call.arguments), *_MARKS)}"


def _scan(text: str) -> Scan:
    ends = Marks(text, _ENDS)
    return scan(text, lambda at: text.find(_CALLS, at), lambda start: _one(text, start, ends))


def _one(text: str, start: int, ends: Marks) -> tuple[int, list[Found]]:
    """Read what stands behind the mark at ``start``; return the index after it, and its calls."""
    begin = skip(text, start + len(_CALLS))
    named = _NAMED.match(text, begin)
    if named is not None:
        read = parse_prefix(text, skip(text, named.end()))
        body = json_body(text, named.end(), ends, closes_itself=True)
        stop = read[1] if read is not None and not body.problem and "trailing text" not in body.repairs else body.stop
        return stop, [(start, stop, body.call(named[1], text[start:stop], identity=named[2] or ""))]
    read = parse_prefix(text, begin)
    row = parse_row(text, begin + 1) if read is not None and text.startswith("[", begin) else []
    if read is not None and row and (len(row) > MAX_CALLS or text.startswith("]", skip(text, row[-1][2]))):
        calls = [(a, b, call_from(parsed, text[a:b])) for parsed, a, b in row]
        return read[1], one_block(text, (start, read[1]), calls)
    if read is None:
        end, mark = ends.first(begin)
        parsed, whole = parse_json(text[begin:end]), mark or not open_ended(text[begin:end])
        entries = parsed.value if isinstance(parsed.value, list) and len(parsed.value) == 1 else [parsed.value]
        call = call_from(replace(parsed, value=entries[0]), text[begin:end], [] if whole else [UNFINISHED])
        return end, one_block(text, (start, end), [(begin, end, call)])
    parsed, end = read
    return end, one_block(text, (start, end), [(begin, end, call_from(parsed, text[begin:end]))])


CODEC = Mistral
