"""The whole message is JSON: a call, a list of calls, or an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style, fields, listing, template
from ferrule.chat.objects import call_from, numbered
from ferrule.chat.parsing import MAX_CALLS, Parsed, dump, open_ended, parse_json, parse_prefix, parse_row
from ferrule.chat.scan import THINK_CLOSE, THINK_OPEN, UNFINISHED, Found, Scan, label, note, scan
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "RawJson"]

_FENCE = re.compile(r"\A```[A-Za-z]*\n(.*?)\n?```\Z", re.DOTALL)


@dataclass(frozen=True)
class RawJson:
    """Messages as JSON only.

    ``{"name": ..., "arguments": {...}}`` is one call and a list of them several; ``thought`` beside ``name`` (or
    beside ``calls``, a list) is the content. ``{"answer": "text"}`` is a message without calls. Other text is
    plain content; a JSON object that is neither call nor answer is a malformed call.
    """

    style: Style = "json"
    name: str = field(default="raw_json", init=False)
    inline: bool = field(default=False, init=False)
    stop: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown style."""
        check_style(self.style)

    def describe(self, tools: Sequence[Tool]) -> str:
        """Return the tools and the two forms of a message."""
        if not tools:
            return ""
        if self.style == "call":
            return f'Tools:\n{listing(tools, "call", self._template)}\nTo answer: {{"answer": "..."}}'
        forms = 'Reply with JSON only: {"name": tool, "arguments": {...}} to call a tool, {"answer": "..."} to answer.'
        return f"Tools:\n{listing(tools, self.style)}\n{forms}"

    def _template(self, tool: Tool) -> str:
        return template(tool, self.write, fields(tool))

    def write(self, message: Message) -> str:
        """Return the message as one JSON text."""
        content = plain_text(message)
        if not message.calls:
            return content if _keeps(content) else _dump({"answer": content})
        if len(message.calls) == 1 and not content and message.calls[0].problem and message.calls[0].raw:
            return message.calls[0].raw
        objects = [_object(call) for call in message.calls]
        thought = {"thought": content} if content else {}
        if len(objects) == 1 and isinstance(objects[0], dict):
            return _dump({**thought, **objects[0]})
        return _dump({**thought, "calls": objects} if thought else objects)

    def read(self, text: str) -> Message:
        """Return the answer or the calls; JSON after other text, in a fence, or broken is repaired."""
        begin = _begin(text)[0]
        body = text[begin:].strip()
        parsed, before = _located(body)
        before = "\n".join(part for part in (text[:begin].strip(), before) if part)
        if parsed is None:
            return Message("assistant", text)
        message = _message(parsed, body, text, bool(before))
        if not before:
            return message
        content = "\n".join(part for part in (before, plain_text(message)) if part)
        if not message.calls and plain_text(message) == text:
            content = text
        return Message("assistant", content, message.calls)

    def show(self, message: Message) -> str:
        """Return the result as a JSON object."""
        return dump({"result": plain_text(message)})

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label thinking, and the whole JSON text as call or answer."""
        begin, scanned = _begin(text)
        scanned = replace(
            scanned, thoughts=tuple(thought for thought in scanned.thoughts if thought[1] <= begin), calls=()
        )
        if not self.read(text).calls:
            return label(text, scanned)
        start = begin + len(text[begin:]) - len(text[begin:].lstrip())
        return label(text, replace(scanned, calls=((start, len(text.rstrip()), Call("")),)))


def _begin(text: str) -> tuple[int, Scan]:
    """Return where the message begins, after the thinking before its first object, and where thinking stands."""

    def one(start: int) -> tuple[int, list[Found]]:
        read = parse_prefix(text, start)
        marks = [at for mark in (THINK_OPEN, THINK_CLOSE) if (at := text.find(mark, start)) >= 0]
        stop = read[1] if read is not None else min(marks, default=len(text))
        return stop, [(start, stop, Call(""))]

    scanned = scan(text, lambda at: text.find("{", at), one)
    first = scanned.calls[0][0] if scanned.calls else len(text)
    return max((stop for _, stop in scanned.thoughts if stop <= first), default=0), scanned


def _located(body: str) -> tuple[Parsed | None, str]:
    """Find the JSON of a text; return it (None when there is none) and the text before it."""
    fenced = _FENCE.match(body)
    if fenced is not None:
        inner = parse_json(fenced[1])
        return replace(inner, repairs=("fence", *inner.repairs)), ""
    start = 0 if body.startswith(("{", "[")) else body.find('{"name"')
    row = parse_row(body, start) if start >= 0 else []
    if start and (not row or not isinstance(row[0][0].value, dict)):
        return None, ""
    if not row:
        parsed = parse_json(body)
        if parsed.problem and body.startswith("["):
            return None, ""
        return replace(parsed, repairs=(*parsed.repairs, UNFINISHED) if open_ended(body) else parsed.repairs), ""
    return _joined(row, body[row[-1][2] :], ["text before call"] if start else []), body[:start].strip()


def _joined(row: list[tuple[Parsed, int, int]], rest: str, notes: list[str]) -> Parsed:
    """Return the values of a row as one: itself, or a list; what cannot be read beside a call makes it malformed."""
    first = row[0][0]
    if len(row) == 1 and not rest.strip():
        return replace(first, repairs=(*notes, *first.repairs))
    if len(row) == 1 and (not any(bracket in rest for bracket in "{[") or _is_answer(first.value)):
        return replace(first, repairs=(*notes, "trailing text", *first.repairs))
    broken = next((parsed.problem for parsed, _, _ in row if parsed.problem), "")
    if any(bracket in rest for bracket in "{["):
        unfinished = [UNFINISHED] if open_ended(rest) else []
        return Parsed(
            None, (*notes, *unfinished), "the message holds more than its first call, and what follows cannot be read"
        )
    repairs = dict.fromkeys([*notes, "several objects", *(note for parsed, _, _ in row for note in parsed.repairs)])
    return Parsed([parsed.value for parsed, _, _ in row], tuple(repairs), broken)


def _is_answer(value: Any) -> bool:
    return isinstance(value, dict) and "answer" in value and "name" not in value


def _message(parsed: Parsed, body: str, text: str, moved: bool) -> Message:
    value = parsed.value
    if isinstance(value, dict) and "answer" in value and "name" not in value and not parsed.problem:
        exact = set(value) == {"answer"} and isinstance(value["answer"], str) and not moved
        plain = set(value) == {"answer"} and isinstance(value["answer"], int | float | bool)
        if exact:
            return Message("assistant", value["answer"])
        return Message("assistant", json.dumps(value["answer"]) if plain else text)
    thought, items = "", value
    if isinstance(value, dict):
        thought = value["thought"] if isinstance(value.get("thought"), str) else ""
        rest = {k: v for k, v in value.items() if k != "thought" or not thought}
        items = rest["calls"] if set(rest) == {"calls"} and isinstance(rest["calls"], list) else rest
    if not isinstance(items, list):
        return Message("assistant", thought, numbered([call_from(Parsed(items, parsed.repairs, parsed.problem), body)]))
    if not items or (not any(isinstance(item, dict) for item in items) and not thought):
        return Message("assistant", text)
    calls = [call_from(Parsed(item), _dump(item)) for item in items[:MAX_CALLS]]
    for repair in parsed.repairs:
        place = -1 if repair == UNFINISHED else 0
        calls[place] = note(calls[place], repair)
    if len(items) > MAX_CALLS:
        calls[-1] = Call("", raw=_dump(items[MAX_CALLS - 1 :]), problem=f"more than {MAX_CALLS} calls in one message")
    return Message("assistant", thought, numbered(calls))


def _dump(value: Any) -> str:
    return dump(value, THINK_CLOSE)


def _keeps(content: str) -> bool:
    """True for content that is itself a JSON answer with more than a plain text, which is written as it stands."""
    read = parse_prefix(content, 0) if content.startswith("{") else None
    if read is None or read[1] != len(content) or not isinstance(read[0].value, dict) or read[0].problem:
        return False
    value = read[0].value
    return "answer" in value and "name" not in value and (len(value) > 1 or isinstance(value["answer"], dict | list))


def _object(call: Call) -> Any:
    if call.problem and call.raw:
        read = parse_prefix(call.raw, 0)
        return call.raw if read is None or read[1] != len(call.raw) else read[0].value
    return {"name": call.name, "arguments": dict(call.arguments)}


CODEC = RawJson
