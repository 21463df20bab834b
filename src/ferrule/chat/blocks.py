"""Texts made of tagged blocks ``<tag>...</tag>``: checking their form and reading their answer.

Source: "TAPO: Tool-Augmented Policy Optimization" (02).
"""

from __future__ import annotations

import re

from ferrule.chat.scan import thinking

__all__ = ["TAGS", "after_thought", "answer_block", "bare", "text_gate"]

TAGS = frozenset({"think", "search", "code", "response", "answer"})
"""Tags that a response may hold."""

_OPEN = re.compile(r"<([A-Za-z_]\w*)>")
_ANY = re.compile(r"</?[A-Za-z_]\w*>")


def text_gate(text: str, *, tags: frozenset[str] = TAGS, anchored: bool = False) -> bool:
    """Say whether a response consists of blocks ``<tag>...</tag>`` of known tags and ends with an ``answer`` block.

    As published the scan looks for the next block, so that text before and between blocks passes and only text after
    the last one fails; ``anchored`` refuses any text outside blocks. Case does not matter. A tag that is never closed
    opens no block.
    """
    text, at, last, unclosed = text.strip(), 0, "", set[str]()
    search_from = 0
    while opening := _OPEN.search(text, search_from):
        name = opening[1]
        close = -1 if name in unclosed else text.find(f"</{name}>", opening.end())
        if close < 0:
            unclosed.add(name)
            search_from = opening.end()
            continue
        if name.lower() not in tags or (anchored and text[at : opening.start()].strip()):
            return False
        at = search_from = close + len(name) + 3
        last = name.lower()
    return at == len(text) and last == "answer"


def answer_block(text: str) -> str:
    """Return the body of the last closed ``answer`` block; without one, the text after its thought.

    Case of tags does not matter.
    """
    lower = text.lower()
    close = lower.rfind("</answer>")
    start = lower.rfind("<answer>", 0, max(close, 0))
    return text[start + len("<answer>") : close] if 0 <= start < close else after_thought(text)


def after_thought(text: str) -> str:
    """Return what follows the leading thought of a reply, the whole text when there is none."""
    block = thinking(text)
    return text[block[1] :].lstrip() if block is not None and block[1] >= 0 else text


def bare(text: str) -> bool:
    """Say whether a reply answers without any tags but those of a leading thought."""
    rest = after_thought(text)
    return (bool(rest.strip()) or not text.strip()) and _ANY.search(rest) is None
