"""What all codecs share: which calls of a text the model meant, building the message, and labelling ranges."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from ferrule.chat.codec import Labelled
from ferrule.chat.objects import numbered
from ferrule.chat.parsing import MAX_CALLS
from ferrule.core.records import Call, Message

__all__ = [
    "CLOSES", "MAX_READ", "OPENS", "THINKING", "THINK_CLOSE", "THINK_OPEN", "UNFINISHED", "Found", "Marks", "NextPlace",
    "Scan", "assemble", "join", "label", "note", "rethought", "scan", "thinking", "without_thinking",
]  # fmt: skip

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"
THINKING: tuple[tuple[str, str], ...] = (
    (THINK_OPEN, THINK_CLOSE),
    ("[THINK]", "[/THINK]"),
    ("<|channel>thought", "<channel|>"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<thinking>", "</thinking>"),
    ("<mm:think>", "</mm:think>"),
)
"""The marks around thinking, by family: most; Mistral; Gemma 4; Seed; Cohere; Kimi; prompted ones; MiniMax."""
_CLOSE_OF = dict(THINKING)
OPENS = re.compile("|".join(re.escape(opening) for opening, _ in THINKING))
"""Matches a mark that opens thinking."""
CLOSES = re.compile("|".join(re.escape(close) for _, close in THINKING))
"""Matches a mark that closes thinking."""
UNFINISHED = "unfinished"
"""The repair that a codec notes on a call whose text ends before the call does.

In a reply that reached its token limit such a call is malformed (``ferrule.chat.reply.broken_off``).
"""

Found: TypeAlias = tuple[int, int, Call]
"""A call and the character range ``[start, stop)`` it was read from."""

MAX_READ = 4 * MAX_CALLS
"""Most calls read from one text, those included that a closing mark of thinking makes part of a thought."""


@dataclass(frozen=True)
class Scan:
    """The calls that a model meant, and the ranges of its thinking (marks included), each in order."""

    calls: tuple[Found, ...] = ()
    thoughts: tuple[tuple[int, int], ...] = ()


def note(call: Call, repair: str) -> Call:
    """Add a repair to a call, once."""
    return call if repair in call.repairs else replace(call, repairs=(*call.repairs, repair))


class NextPlace:
    """The next place of a mark at or after an index; the length of the text when there is none.

    Asked for indices that only grow, it reads the text once however often it is asked.
    """

    def __init__(self, text: str, find: Callable[[int], int]) -> None:
        """Look for nothing yet; ``find(at)`` is the place at or after ``at``, -1 without one."""
        self._end, self._find = len(text), find
        self._from, self._place = 0, -1

    def __call__(self, at: int) -> int:
        """Return the place at or after ``at``."""
        if not self._from <= at <= self._place:
            place = self._find(at)
            self._from, self._place = at, self._end if place < 0 else place
        return self._place


class Marks:
    """The marks of a form in a text, looked for as ``NextPlace`` does."""

    def __init__(self, text: str, marks: Sequence[str]) -> None:
        """Look for nothing yet."""
        self._end = len(text)
        self._next = [(mark, NextPlace(text, partial(text.find, mark))) for mark in marks]

    def first(self, at: int) -> tuple[int, str]:
        """Return where the first of the marks stands at or after ``at``, and which; the end and "" if none does."""
        places = [(place, mark) for mark, find in self._next if (place := find(at)) < self._end]
        return min(places, default=(self._end, ""))


def scan(text: str, opens: Callable[[int], int], one: Callable[[int], tuple[int, Sequence[Found]]]) -> Scan:
    """Return the calls outside thinking, which may stand anywhere in a text.

    ``opens(at)`` is where the next call may begin at or after ``at`` (-1: nowhere); ``one(start)`` reads there and
    returns the index after what it read and the calls in it. Thinking that is closed but never opened was opened in the
    prompt and begins with the text; thinking that is never closed reaches to its end. A mark inside a well-formed call
    is part of the call. So that the time stays linear, reading ends in a malformed call after ``MAX_CALLS`` calls, and
    after ``MAX_READ`` where most of them turned out to be thinking.
    """
    call_at = NextPlace(text, opens)
    open_at, close_at = (NextPlace(text, partial(_place, marks, text)) for marks in (OPENS, CLOSES))
    calls: list[Found] = []
    thoughts: list[tuple[int, int]] = []
    at = seen = 0
    while (first := min(call_at(at), open_at(at), close_at(at))) < len(text):
        if closing := CLOSES.match(text, first):
            at = closing.end()
            calls, thoughts = [], [(0, at)]
        elif opening := OPENS.match(text, first):
            at = _thought_end(text, opening)
            at = len(text) if at < 0 else at
            thoughts.append((first, at))
        else:
            stop, read = one(first)
            at = max(stop, first + 1)
            seen += len(read)
            if seen > MAX_READ or len(calls) + len(read) > MAX_CALLS - (call_at(at) < len(text)):
                problem = f"more than {MAX_CALLS} calls in one message"
                calls.append((first, len(text), Call("", raw=text[first:], problem=problem)))
                break
            calls += read
    return Scan(tuple(calls), tuple(thoughts))


def _place(marks: re.Pattern[str], text: str, at: int) -> int:
    mark = marks.search(text, at)
    return mark.start() if mark else -1


def _thought_end(text: str, opening: re.Match[str]) -> int:
    """Return the index after the mark that closes the thinking which a mark opens, -1 where none does."""
    close = _CLOSE_OF[opening[0]]
    place = text.find(close, opening.end())
    return place + len(close) if place >= 0 else -1


def thinking(text: str) -> tuple[int, int] | None:
    """Return the range of a leading think block, marks included.

    A block whose opening mark stands in the prompt begins at 0; one that is never closed has stop -1.
    """
    blank = len(text) - len(text.lstrip())
    if first := OPENS.match(text, blank):
        return blank, _thought_end(text, first)
    opening, closing = OPENS.search(text), CLOSES.search(text)
    if closing and not (opening and opening.start() < closing.start()):
        return 0, closing.end()
    return None


def rethought(text: str, before: str, behind: str) -> str:
    """Return a text that opens and closes thinking at its beginning with what stands around it replaced."""
    block = thinking(text)
    opening = OPENS.match(text, block[0]) if block is not None and block[1] >= 0 else None
    if block is None or opening is None:
        return text
    thought = text[opening.end() : block[1] - len(_CLOSE_OF[opening[0]])].strip()
    return f"{before}{thought}{behind}{text[block[1] :].lstrip(chr(10))}"


def without_thinking(text: str) -> str:
    """Return a text less its thinking, wherever that stands (``scan`` says where it begins and ends)."""
    thoughts = scan(text, lambda at: -1, lambda start: (start, ())).thoughts
    begins, ends = [0, *(stop for _, stop in thoughts)], [*(start for start, _ in thoughts), len(text)]
    return "".join(text[begin:end] for begin, end in zip(begins, ends, strict=True))


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


def label(text: str, scanned: Scan, answer: tuple[int, int] | None = None) -> tuple[Labelled, ...]:
    """Label thinking, the calls, and the answer (without calls: all text after the last thought)."""
    ranges: list[Labelled] = [("think", start, stop) for start, stop in scanned.thoughts]
    ranges += [("call", start, stop) for start, stop, _ in scanned.calls]
    begin = scanned.thoughts[-1][1] if scanned.thoughts else 0
    if answer is not None:
        ranges.append(("answer", *answer))
    elif not scanned.calls and text[begin:].strip():
        ranges.append(("answer", begin + len(text[begin:]) - len(text[begin:].lstrip()), len(text.rstrip())))
    return tuple(sorted(ranges, key=lambda item: item[1:]))
