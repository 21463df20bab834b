"""Judging the text of one response: its form, its final answer, and how far that answer is right by its source."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ferrule.chat.scan import thinking
from ferrule.core.arrays import nearest

__all__ = ["SOURCES", "TAGS", "after_thought", "bare", "final_answer", "normal_form", "soft_score", "text_gate"]

TAGS = frozenset({"think", "search", "code", "response", "answer"})
"""Tags that a response may hold."""
LONGEST_ANSWER = 100
"""Only this many characters from the end of an answer are judged."""
_WITHIN = 1e-3 + 1e-12
"""How far numbers may lie apart, and room for the rounding of their difference."""

_OPEN = re.compile(r"<([A-Za-z_]\w*)>")
_ANY = re.compile(r"</?[A-Za-z_]\w*>")
_WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_NUMBER_WORD = re.compile(rf"\b({'|'.join(_WORDS)})\b")


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


def final_answer(text: str) -> str:
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


def normal_form(text: str) -> str:
    """Trim, lower the case, write the words one to twelve as digits, and take the commas out of whole numbers."""
    text = _NUMBER_WORD.sub(lambda word: str(_WORDS.index(word[1]) + 1), text.strip().lower())
    bare = text.replace(",", "")
    return bare if bare.isdigit() else text


def _exact(answer: str, gold: str) -> float:
    return float(normal_form(answer) == normal_form(gold))


def _fact(answer: str, gold: str) -> float:
    one, other = normal_form(answer), normal_form(gold)
    if other and other in one:
        return 1.0
    apart = _edits(one, other) / max(len(one), len(other), 1)
    return 1.0 - apart if other and apart < 0.5 else 0.0


def _edits(one: str, other: str) -> int:
    """Fewest insertions, deletions and replacements that turn one text into the other."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def _complex(text: str) -> complex | None:
    try:
        value = complex(normal_form(text).replace(" ", "").replace("i", "j"))
    except ValueError:
        return None
    return value if math.isfinite(value.real) and math.isfinite(value.imag) else None


def _calculator(answer: str, gold: str) -> float:
    one, other = _complex(answer), _complex(gold)
    return float(one is not None and other is not None and abs(one - other) <= _WITHIN)


def _near(answer: str, gold: str) -> float:
    one = _complex(re.sub(r"[^\d+.-]", "", normal_form(answer)))
    other = _complex(gold)
    if one is None or other is None:
        return 0.0
    return float(abs(one - other) < 0.05 * abs(other) or one == other)


SOURCES: Mapping[str, Callable[[str, str], float]] = MappingProxyType(
    {
        **dict.fromkeys(("default", "gsm8k", "dapo_math", "deep_math", "aime"), _exact),
        "nq": _fact,
        "calculator": _calculator,
        "complex": _near,
    }
)
"""How an answer is judged, by the data set it comes from; names that start with ``aime`` are ``aime``."""


def soft_score(answer: str | None, gold: Any, *, source: str = "default") -> float:
    """Score an answer 0 to 1 by the rule of its source; a list of golds accepts the best of them.

    Mathematics: equal after ``normal_form``. ``nq``: 1 when the gold is part of the answer, else ``1 - d`` for an edit
    distance ``d`` (relative to the longer text) below 0.5. ``calculator``: numbers, complex ones too, within 1e-3.
    ``complex``: a relative error below 5 %. Raises ``ValueError`` on an unknown source, and without a gold.
    """
    key = "aime" if source.startswith("aime") else source
    if key not in SOURCES:
        raise ValueError(f"no source {source!r}; {nearest(source, list(SOURCES))}")
    if isinstance(gold, (list, tuple)):
        return max((soft_score(answer, one, source=source) for one in gold), default=0.0)
    if gold is None:
        raise ValueError("there is no gold to compare with; give the task an answer")
    return 0.0 if answer is None else SOURCES[key](answer[-LONGEST_ANSWER:], str(gold))
