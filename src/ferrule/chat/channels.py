"""What forms share whose replies are several messages: thinking, words and calls stand in messages of their own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from ferrule.chat.codec import Labelled
from ferrule.chat.objects import numbered
from ferrule.chat.scan import THINK_CLOSE, THINK_OPEN, Scan, label, thinking
from ferrule.core.records import Message

__all__ = ["Kind", "Part", "labelled", "outside", "reply_from", "thought_apart"]

Kind: TypeAlias = Literal["think", "answer", "words"]
"""What a message of a reply is, calls aside: thinking, the answer, or words beside calls."""


@dataclass(frozen=True)
class Part:
    """One message of a reply that is no call: its range, the range of its body, and what it is."""

    start: int
    begin: int
    end: int
    stop: int
    kind: Kind


def thought_apart(content: str) -> tuple[str | None, str]:
    """Return the thinking that stands in tags before a content, and the content; None where there is none.

    Line breaks around thinking in tags go: these forms have none.
    """
    block = thinking(content)
    if block is None or block[1] < 0 or not content.startswith(THINK_OPEN):
        return None, content
    thought, content = content[len(THINK_OPEN) : block[1] - len(THINK_CLOSE)], content[block[1] :]
    if thought[:1] == thought[-1:] == "\n" and content.startswith("\n\n"):
        thought, content = thought[1:-1], content[2:]
    return thought, content


def outside(parts: Iterable[Part], scanned: Scan) -> list[Part]:
    """Return the parts that do not stand inside thinking in tags."""
    begins = [begin for begin, _ in scanned.thoughts]  # in order, and none inside another

    def thought(part: Part) -> bool:
        place = bisect_right(begins, part.start)
        return place > 0 and part.start < scanned.thoughts[place - 1][1]

    return [part for part in parts if not thought(part)]


def reply_from(text: str, scanned: Scan, parts: Sequence[Part], head: str) -> Message:
    """Return thinking (in tags), words and calls of a text; without any it is words. ``head`` begins messages."""
    if not parts and not scanned.calls:
        return Message("assistant", text)
    thoughts = "".join(f"{THINK_OPEN}{text[p.begin : p.end]}{THINK_CLOSE}" for p in parts if p.kind == "think")
    kept: list[str] = []
    at = 0
    inside = sorted([(p.start, p.stop, "" if p.kind == "think" else text[p.begin : p.end]) for p in parts]
                    + [(start, stop, "") for start, stop, _ in scanned.calls])  # fmt: skip
    for start, stop, words in inside:
        kept += [text[at:start].replace(head, ""), words]
        at = stop
    kept.append(text[at:])
    content = thoughts + "\n".join(piece for piece in kept if piece.strip() or (piece and len(parts) == 1))
    return Message("assistant", content, numbered([call for _, _, call in scanned.calls]))


def labelled(text: str, scanned: Scan, parts: Sequence[Part]) -> tuple[Labelled, ...]:
    """Label the bodies of thinking and of the last answer, and the calls."""
    thoughts = [*scanned.thoughts, *((p.begin, p.end) for p in parts if p.kind == "think")]
    answers = [(p.begin, p.end) for p in parts if p.kind == "answer"]
    return label(text, replace(scanned, thoughts=tuple(sorted(thoughts))), answers[-1] if answers else None)
