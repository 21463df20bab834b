"""What a policy does with the text of a reply: find its end, read it with what is known of it, label its parts.

A codec reads a text by itself. Around it stands what the text cannot tell: the prompt may have opened the thinking, the
reply may have been cut off at its limit, and tools say which parameters are text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from ferrule.chat.codec import Codec, Labelled
from ferrule.chat.scan import THINK_CLOSE, THINK_OPEN, UNFINISHED
from ferrule.core.records import Message, Tool

__all__ = ["CUT_OFF", "Untyped", "broken_off", "first_stop", "in_thought", "read_reply", "reply_spans"]

CUT_OFF = "cut off"
"""The problem of a call that the limit of its reply broke off."""


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


def in_thought(text: str, opened: bool = False) -> bool:
    """Say whether a text ends inside thinking; ``opened`` says whether it begins there."""
    last_open, last_close = text.rfind(THINK_OPEN), text.rfind(THINK_CLOSE)
    return last_open > last_close or (opened and last_close < 0)


def first_stop(text: str, stops: Sequence[str], opened: bool = False) -> int:
    """Return the index after the first stop string outside thinking, -1 without one.

    The text begins inside thinking when ``opened``, and when it closes thinking that it did not open.
    """
    close = text.find(THINK_CLOSE)
    opening = text.find(THINK_OPEN)
    at = 0
    if opened or (close >= 0 and not 0 <= opening < close):
        if close < 0:
            return -1
        at = close + len(THINK_CLOSE)
    while True:
        places = [(place + len(stop), place) for stop in stops if stop and (place := text.find(stop, at)) >= 0]
        if not places:
            return -1
        end, begin = min(places)
        thought = text.find(THINK_OPEN, at, begin)
        if thought < 0:
            return end
        close = text.find(THINK_CLOSE, thought)
        if close < 0:
            return -1
        at = close + len(THINK_CLOSE)


def read_reply(
    codec: Codec, text: str, *, tools: Sequence[Tool] = (), opened: bool = False, cut: bool = False
) -> Message:
    """Return the message of a reply.

    ``tools`` are those on offer, ``opened`` says that the prompt left thinking open, ``cut`` that the reply ended at a
    limit: a call it broke off is then malformed.
    """
    if tools and isinstance(codec, Untyped):
        codec = codec.typed(tools)
    message = codec.read(THINK_OPEN + text if opened else text)
    if opened and isinstance(message.content, str):
        message = replace(message, content=message.content.removeprefix(THINK_OPEN))
    return broken_off(message) if cut else message


def reply_spans(codec: Codec, text: str, *, opened: bool = False) -> tuple[Labelled, ...]:
    """Return the labelled ranges of a reply; with ``opened`` its thinking begins with the text."""
    if not opened:
        return codec.spans(text)
    shift = len(THINK_OPEN)
    ranges = codec.spans(THINK_OPEN + text)
    return tuple((label, max(start - shift, 0), max(stop - shift, 0)) for label, start, stop in ranges)
