"""The harmony form of gpt-oss: messages with channels; thinking, calls and answers stand in messages of their own."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ferrule.chat.codec import Labelled
from ferrule.chat.describe import Style, check_style
from ferrule.chat.native import about, check_name, framed, json_body, json_text
from ferrule.chat.objects import numbered
from ferrule.chat.scan import THINK_CLOSE, THINK_OPEN, UNFINISHED, Found, Marks, Scan, label, scan, thinking
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["CODEC", "Harmony"]

_START, _CHANNEL, _MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
_END, _CALL, _RETURN, _CONSTRAIN = "<|end|>", "<|call|>", "<|return|>", "<|constrain|>"
_MARKS = (_START, _CHANNEL, _MESSAGE, _END, _CALL, _RETURN, _CONSTRAIN)
_ENDS = (_END, _CALL, _RETURN, _START)
_NEXT = "<|start|>assistant"
_HEAD = re.compile(
    r"(?:<\|start\|>assistant)?(?: ?\bto=(?P<to>[^\s<>]{1,200}))?"
    r"(?:<\|channel\|>(?P<channel>[a-z]{1,20})(?: {0,3}to=(?P<later>[^\s<>]{1,200}))?)?"
    r"(?: {0,3}(?:<\|constrain\|>)?[a-z]{1,20})?<\|message\|>"
)
_BEGUN = re.compile(r"(?:^|<\|start\|>assistant)(?:<\|channel\|>[a-z]{1,20})? ?to=[^<]{0,200}(?:<[^\n{}]{0,80})?\Z")


@dataclass(frozen=True)
class _Part:
    """One message of a reply: its range, the range of its body, and its channel."""

    start: int
    begin: int
    end: int
    stop: int
    channel: str


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
        content = plain_text(message)
        block = thinking(content)
        parts: list[str] = []
        if block is not None and block[1] >= 0 and content.startswith(THINK_OPEN):
            thought, content = content[len(THINK_OPEN) : block[1] - len(THINK_CLOSE)], content[block[1] :]
            if thought[:1] == thought[-1:] == "\n" and content.startswith("\n\n"):
                thought, content = thought[1:-1], content[2:]  # line breaks of thinking in tags; this form has none
            parts.append(f"{_CHANNEL}analysis{_MESSAGE}{thought}{_END}")
        if content or not message.calls:
            channel = "commentary" if message.calls else "final"
            parts.append(f"{_CHANNEL}{channel}{_MESSAGE}{content}{_END if message.calls else ''}")
        return _NEXT.join([*parts, *(_written(call) for call in message.calls)])

    def read(self, text: str) -> Message:
        """Return thinking, content and calls; broken calls are repaired or malformed, text without channels content."""
        scanned, parts = _scan(text)
        if not parts and not scanned.calls:
            return Message("assistant", text)
        thoughts = "".join(
            f"{THINK_OPEN}{text[p.begin : p.end]}{THINK_CLOSE}" for p in parts if p.channel == "analysis"
        )
        kept: list[str] = []
        at = 0
        inside = sorted([(p.start, p.stop, text[p.begin : p.end], p.channel) for p in parts]
                        + [(a, b, "", "call") for a, b, _ in scanned.calls])  # fmt: skip
        for start, stop, body, channel in inside:
            kept += [text[at:start].replace(_NEXT, ""), *([body] if channel not in ("analysis", "call") else [])]
            at = stop
        kept.append(text[at:])
        content = thoughts + "\n".join(piece for piece in kept if piece.strip() or (piece and len(parts) == 1))
        return Message("assistant", content, numbered([call for _, _, call in scanned.calls]))

    def show(self, message: Message) -> str:
        """Return the result between ``<tool_response>`` tags."""
        return framed(message)

    def spans(self, text: str) -> tuple[Labelled, ...]:
        """Label the bodies of thinking and of the answer, and the calls."""
        scanned, parts = _scan(text)
        thoughts = [*scanned.thoughts, *((p.begin, p.end) for p in parts if p.channel == "analysis")]
        answers = [(p.begin, p.end) for p in parts if p.channel == "final"]
        scanned = replace(scanned, thoughts=tuple(sorted(thoughts)))
        return label(text, scanned, answers[-1] if answers else None)


def _written(call: Call) -> str:
    if call.problem and call.raw:
        return call.raw
    name = check_name(call.name, "harmony", "<> \t\n")
    return f" to=functions.{name}{_CHANNEL}commentary json{_MESSAGE}{json_text(dict(call.arguments), *_MARKS)}{_CALL}"


def _scan(text: str) -> tuple[Scan, list[_Part]]:
    """Return calls and thinking in tags, and the messages without recipients outside such thinking."""
    parts: dict[int, _Part] = {}
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
        parts[start] = _Part(start, head.end(), end, stop, head["channel"] or "final")
        return stop, []

    scanned = scan(text, opens, one)
    begins = [begin for begin, _ in scanned.thoughts]  # in order, and none inside another

    def thought(part: _Part) -> bool:
        place = bisect_right(begins, part.start)
        return place > 0 and part.start < scanned.thoughts[place - 1][1]

    return scanned, [part for part in parts.values() if not thought(part)]


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
