"""What all codecs share once they know where the calls of a text lie: building the message and labelling ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ferrule.chat.codec import Labelled
from ferrule.chat.parsing import numbered
from ferrule.core.records import Call, Message

__all__ = ["THINK_CLOSE", "THINK_OPEN", "Found", "assemble", "join", "label", "note", "thinking"]

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"

Found = tuple[int, int, Call]
"""A call and the character range ``[start, stop)`` it was read from."""


def note(call: Call, repair: str) -> Call:
    """Add a repair to a call, once."""
    return call if repair in call.repairs else replace(call, repairs=(*call.repairs, repair))


def thinking(text: str, first: int = -1) -> tuple[int, int] | None:
    """Return the range of a leading think block, tags included.

    A block whose opening tag stands in the prompt begins at 0 (and must close before ``first``, where the first
    call may begin); one that is never closed has stop -1.
    """
    blank = len(text) - len(text.lstrip())
    close = text.find(THINK_CLOSE)
    if text.startswith(THINK_OPEN, blank):
        return blank, (close + len(THINK_CLOSE) if close >= 0 else -1)
    opening = text.find(THINK_OPEN)
    if close >= 0 and (opening < 0 or opening > close) and not 0 <= first < close:
        return 0, close + len(THINK_CLOSE)
    return None


def assemble(text: str, matches: Sequence[Found], joint: str = "\n") -> Message:
    """Build the assistant message: content is the text before the first call less one ``joint``.

    Text after a call is moved behind the content and noted as the repair ``text after call``.
    """
    if not matches:
        return Message("assistant", text)
    content = text[: matches[0][0]].removesuffix(joint)
    calls: list[Call] = []
    tails: list[str] = []
    for i, (_, stop, call) in enumerate(matches):
        following = matches[i + 1][0] if i + 1 < len(matches) else len(text)
        tail = text[stop:following].strip()
        if tail:
            tails.append(tail)
            call = note(call, "text after call")
        calls.append(call)
    if tails:
        content = "\n".join([content, *tails] if content else tails)
    return Message("assistant", content, numbered(calls))


def join(content: str, calls: Sequence[str], joint: str = "\n") -> str:
    """Write content and the texts of calls, ``joint`` between them; no joint before the first of empty content."""
    return joint.join([content, *calls] if content else calls)


def label(text: str, matches: Sequence[Found], answer: tuple[int, int] | None = None) -> tuple[Labelled, ...]:
    """Label the think block, the calls, and the answer (without calls: all text after the think block)."""
    ranges: list[Labelled] = []
    block = thinking(text, matches[0][0] if matches else -1)
    begin = 0
    if block is not None:
        begin = block[1] if block[1] >= 0 else len(text)
        ranges.append(("think", block[0], begin))
    ranges += [("call", start, stop) for start, stop, _ in matches]
    if answer is not None:
        ranges.append(("answer", *answer))
    elif not matches and text[begin:].strip():
        ranges.append(("answer", begin + len(text[begin:]) - len(text[begin:].lstrip()), len(text.rstrip())))
    return tuple(sorted(ranges, key=lambda item: item[1:]))
