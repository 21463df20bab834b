"""What a policy does with the text of a reply: find its end, read it with what is known of it, label its parts.

A codec reads a text by itself. Around it stands what the text cannot tell: the prompt may have opened the thinking, the
reply may have been cut off at its limit, and tools say which parameters are text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol, runtime_checkable

from ferrule.chat.codec import Codec, Labelled
from ferrule.chat.scan import CLOSES, OPENS, THINK_OPEN, THINKING, UNFINISHED, NextPlace
from ferrule.core.records import Message, Span, Tool

__all__ = [
    "CUT_OFF", "Untyped", "broken_off", "first_stop", "in_thought", "open_thought", "pieces_of",
    "read_reply", "reply_spans", "token_spans",
]  # fmt: skip

CUT_OFF = "cut off"
"""The problem of a call that the limit of its reply broke off."""

_ANALYSIS, _TO_SELF = "<|channel|>analysis<|message|>", "to=self<|message|>"
_CLOSED = {opening: re.compile(re.escape(close)) for opening, close in THINKING}
_CLOSED[_ANALYSIS] = re.compile(r"<\|(?:end|call|return|start)\|>")
_CLOSED[_TO_SELF] = re.compile(r"<\|(?:eom|eot|start)\|>")
_THOUGHTS = re.compile(f"{OPENS.pattern}|{re.escape(_ANALYSIS)}|{re.escape(_TO_SELF)}")
"""Matches a mark that opens thinking, or a message for it of the forms harmony and ATEM, which any mark there ends."""


@runtime_checkable
class Untyped(Protocol):
    """A codec whose form does not tell text from numbers: it learns which parameters are text from the tools."""

    def typed(self, tools: Sequence[Tool]) -> Codec:
        """Return the codec for these tools."""
        ...


def broken_off(message: Message) -> Message:
    """Make the call that a reply's limit broke off malformed: it is never repaired and run.

    It is the one on which the codec noted ``ferrule.chat.scan.UNFINISHED``.
    """
    if not any(UNFINISHED in call.repairs for call in message.calls):
        return message
    calls = [
        replace(call, problem=CUT_OFF, arguments={}) if UNFINISHED in call.repairs else call for call in message.calls
    ]
    return replace(message, calls=tuple(calls))


def open_thought(text: str) -> str:
    """Return a text from the mark on that opens thinking which nothing closes; empty without one."""
    last = None
    for last in _THOUGHTS.finditer(text):  # noqa: B007 - the last one counts
        pass
    return text[last.start() :] if last is not None and _CLOSED[last[0]].search(text, last.end()) is None else ""


def in_thought(text: str, opened: bool = False) -> bool:
    """Say whether a text ends inside thinking; ``opened`` says whether it begins there."""
    return bool(open_thought(text)) or (opened and CLOSES.search(text) is None)


def first_stop(text: str, stops: Sequence[str], opened: bool = False) -> int:
    """Return the index after the first stop string outside thinking, -1 without one.

    The text begins inside thinking when ``opened``, and when it closes thinking that it did not open. The mark that
    closes thinking stands outside: it may be a stop string.
    """
    closing, opening = CLOSES.search(text), _THOUGHTS.search(text)
    at = 0
    if opened or (closing and not (opening and opening.start() < closing.start())):
        if closing is None:
            return -1
        at = closing.start()
    finds = [(stop, NextPlace(text, partial(text.find, stop))) for stop in stops if stop]
    while True:
        places = [(place + len(stop), place) for stop, find in finds if (place := find(at)) < len(text)]
        if not places:
            return -1
        end, begin = min(places)
        thought = _THOUGHTS.search(text, at, begin)
        if thought is None:
            return end
        closing = _CLOSED[thought[0]].search(text, thought.end())
        if closing is None:
            return -1
        at = closing.start()


def read_reply(
    codec: Codec, text: str, *, tools: Sequence[Tool] = (), opened: bool = False, cut: bool = False
) -> Message:
    """Return the message of a reply.

    ``tools`` are those on offer, ``opened`` says that the prompt left thinking open, ``cut`` that the reply ended at a
    limit: a call it broke off is then malformed.
    """
    if tools and isinstance(codec, Untyped):
        codec = codec.typed(tools)
    before = _opening(text) if opened else ""
    message = codec.read(before + text)
    if isinstance(message.content, str):
        message = replace(message, content=message.content.removeprefix(before))
    return broken_off(message) if cut else message


def reply_spans(codec: Codec, text: str, *, opened: bool = False) -> tuple[Labelled, ...]:
    """Return the labelled ranges of a reply; with ``opened`` its thinking begins with the text."""
    before = _opening(text) if opened else ""
    shift = len(before)
    ranges = codec.spans(before + text)
    return tuple((label, max(start - shift, 0), max(stop - shift, 0)) for label, start, stop in ranges)


def _opening(text: str) -> str:
    """Return the mark that opened thinking before a text: the one whose closing mark comes first in it."""
    closing = CLOSES.search(text)
    return next((opening for opening, close in THINKING if closing and closing[0] == close), THINK_OPEN)


def pieces_of(text: Callable[[Sequence[int]], str], ids: Sequence[int]) -> list[str]:
    """Return what every token adds to the text; a letter of several tokens is added by the last of them."""
    pieces: list[str] = []
    begin = 0
    for end in range(1, len(ids) + 1):
        whole = text(ids[begin:end])
        if whole.endswith("\ufffd") and end < len(ids):
            # Either a letter whose other tokens follow, or the letter U+FFFD itself: then the next token adds to it.
            longer = text(ids[begin : end + 1])
            if len(longer) <= len(whole) or not longer.startswith(whole):
                pieces.append("")
                continue
        pieces.append(whole)
        begin = end
    return pieces


def token_spans(pieces: Sequence[str], ranges: Sequence[Labelled], *, first: int = 0) -> tuple[Span, ...]:
    """Map labelled ranges of a text to ranges of its tokens, whose texts are ``pieces``, counted from token ``first``.

    A token that a range begins or ends within belongs to it as a whole; what lies before ``first`` is left out.
    """
    starts, at = [], 0
    for piece in pieces:
        starts.append(at)
        at += len(piece)
    spans = []
    for label, low, high in ranges:
        places = enumerate(zip(starts, pieces, strict=True))
        inside = [i for i, (s, p) in places if s < high and s + len(p) > low and i >= first]
        if inside:
            spans.append(Span(label, inside[0] - first, inside[-1] + 1 - first))
    return tuple(spans)
