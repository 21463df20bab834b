"""The harmony form of gpt-oss: messages with channels; thinking, calls and answers stand in messages of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ferrule.chat.channels import Kind, Part, labelled, outside, reply_from, thought_apart
from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style
from ferrule.chat.native import about, check_name, framed, json_body, json_text
from ferrule.chat.scan import UNFINISHED, Found, Marks, Scan, scan
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "Harmony"]

_START, _CHANNEL, _MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
_END, _CALL, _RETURN, _CONSTRAIN = "<|end|>", "<|call|>", "<|return|>", "<|constrain|>"
_MARKS = (_START, _CHANNEL, _MESSAGE, _END, _CALL, _RETURN, _CONSTRAIN)
_ENDS = (_END, _CALL, _RETURN, _START)
_NEXT = "<|start|>assistant"
_KINDS: dict[str, Kind] = {"analysis": "think", "final": "answer"}
_HEAD = re.compile(
    r"(?:<\|start\|>assistant)?(?: ?\bto=(?P<to>[^\s<>]{1,200}))?"
    r"(?:<\|channel\|>(?P<channel>[a-z]{1,20})(?: {0,3}to=(?P<later>[^\s<>]{1,200}))?)?"
    r"(?: {0,3}(?:<\|constrain\|>)?[a-z]{1,20})?<\|message\|>"
)
_BEGUN = re.compile(r"(?:^|<\|start\|>assistant)(?:<\|channel\|>[a-z]{1,20})? ?to=[^<]{0,200}(?:<[^\n{}]{0,80})?\Z")


@dataclass(frozen=True)
class Harmony:
    """Messages with channels, as they follow ``<|start|>assistant``.

    A call is `` to=functions.name<|channel|>commentary json<|message|>{...}<|call|>``; the recipient may also follow
    the channel. The channel ``analysis`` is thinking, which stands as ``<think>...</think>`` before the content of a
    message; ``final`` and ``commentary`` without a recipient are content. The body of a recipient that is no function
    (``python``) is its one argument ``code`` where it is not JSON.
    """

    INSIDE: ClassVar[tuple[str, ...]] = (_END,)
    """Marks that end parts of a reply, so that they do not end the reply."""

    style: Style = "json"
    name: str = field(default="harmony", init=False)
    inline: bool = field(default=False, init=False)
    stop: tuple[str, ...] = field(default=(_CALL, _RETURN), init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown style."""
        check_style(self.style)

    def describe(self, tools: Sequence[Tool]) -> str:
        """Return the tools and how one is called."""
        how = f"To call one, write to=functions.name{_CHANNEL}commentary json{_MESSAGE}{{...}}{_CALL}"
        return about(tools, self.style, self.write, how)

    def write(self, message: Message) -> str:
        """Return the messages of thinking, content and calls."""
        thought, content = thought_apart(plain_text(message))
        parts = [] if thought is None else [f"{_CHANNEL}analysis{_MESSAGE}{thought}{_END}"]
        if content or not message.calls:
            channel = "commentary" if message.calls else "final"
            parts.append(f"{_CHANNEL}{channel}{_MESSAGE}{content}{_END if message.calls else ''}")
        return _NEXT.join([*parts, *(_written(call) for call in message.calls)])

    def read(self, text: str) -> Message:
        """Return thinking, content and calls; broken calls are repaired or malformed, text without channels content."""
        return reply_from(text, *_scan(text), _NEXT)

    def show(self, message: Message) -> str:
        """Return the result between ``<tool_response>`` tags."""
        return framed(message)

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label the bodies of thinking and of the answer, and the calls."""
        return labelled(text, *_scan(text))


def _written(call: Call) -> str:
    if call.problem and call.raw:
        return call.raw
    name = check_name(call.name, "harmony", "<> \t\n")
    return f" to=functions.{name}{_CHANNEL}commentary json{_MESSAGE}{json_text(dict(call.arguments), *_MARKS)}{_CALL}"


def _scan(text: str) -> tuple[Scan, list[Part]]:
    """Return calls and thinking in tags, and the messages without recipients outside such thinking."""
    parts: dict[int, Part] = {}
    ends = Marks(text, _ENDS)
    begun = _BEGUN.search(text[-400:]) if _MESSAGE not in text[-400:].rpartition(_START)[2] else None
    last = begun.start() + max(0, len(text) - 400) if begun else -1

    def opens(at: int) -> int:
        head = _HEAD.search(text, at)
        places = [place for place in (head.start() if head else -1, last) if place >= at]
        return min(places, default=-1)

    def one(start: int) -> tuple[int, list[Found]]:
        head = _HEAD.match(text, start)
        if head is None:
            problem = "the header of the call is not finished"
            return len(text), [(start, len(text), Call("", raw=text[start:], problem=problem, repairs=(UNFINISHED,)))]
        to = head["to"] or head["later"]
        if to:
            return _call(text, head, to, ends)
        end, mark = ends.first(head.end())
        stop = end + len(mark) * (mark != _START)
        parts[start] = Part(start, head.end(), end, stop, _KINDS.get(head["channel"] or "final", "words"))
        return stop, []

    scanned = scan(text, opens, one)
    return scanned, outside(parts.values(), scanned)


def _call(text: str, head: re.Match[str], to: str, ends: Marks) -> tuple[int, list[Found]]:
    """Read the call behind a header with a recipient; return where it ends, and it."""
    start, function = head.start(), to.startswith("functions.")
    name = to.removeprefix("functions.")
    notes = [] if function else ["built-in tool"]
    body = json_body(text, head.end(), ends, closes_itself=True)
    if not function and (body.problem or "json" in body.repairs):
        end, mark = ends.first(head.end())
        code = text[head.end() : end]
        body = replace(body, stop=end, mark=mark, problem="", arguments={"code": code}, repairs=("code",))
        body = body if mark else replace(body, repairs=("code", UNFINISHED))
    stop = body.stop + len(body.mark) * (body.mark != _START)
    if body.mark in (_END, _START, _RETURN):
        notes.append("no <|call|>")
    if head["channel"] == "analysis" and function:
        notes.append("analysis channel")
    return stop, [(start, stop, body.call(name, text[start:stop], notes))]


CODEC = Harmony
