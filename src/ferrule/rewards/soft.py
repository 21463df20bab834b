"""Judging an answer between 0 and 1 by the rule of the data set it comes from.

Source: "TAPO: Tool-Augmented Policy Optimization" (02).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ferrule.core.arrays import nearest

__all__ = ["SOURCES", "normal_form", "soft_score"]

LONGEST_ANSWER = 100
"""Only this many characters from the end of an answer are judged."""
_WITHIN = 1e-3 + 1e-12
"""How far numbers may lie apart, and room for the rounding of their difference."""
_WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_NUMBER_WORD = re.compile(rf"\b({'|'.join(_WORDS)})\b")


def normal_form(text: str) -> str:
    """Trim, lower the case, write the words one to twelve as digits, and take the commas out of whole numbers."""
    text = _NUMBER_WORD.sub(lambda word: str(_WORDS.index(word[1]) + 1), text.strip().lower())
    plain = text.replace(",", "")
    return plain if plain.isdigit() else text


def _exact(answer: str, gold: str) -> float:
    return float(normal_form(answer) == normal_form(gold))


def _fact(answer: str, gold: str) -> float:
    text, wanted = normal_form(answer), normal_form(gold)
    if wanted and wanted in text:
        return 1.0
    apart = _edits(text, wanted) / max(len(text), len(wanted), 1)
    return 1.0 - apart if wanted and apart < 0.5 else 0.0


def _edits(first: str, second: str) -> int:
    """Fewest insertions, deletions and replacements that turn one text into the other."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def _complex(text: str) -> complex | None:
    try:
        value = complex(normal_form(text).replace(" ", "").replace("i", "j"))
    except ValueError:
        return None
    return value if math.isfinite(value.real) and math.isfinite(value.imag) else None


def _calculator(answer: str, gold: str) -> float:
    value, wanted = _complex(answer), _complex(gold)
    return float(value is not None and wanted is not None and abs(value - wanted) <= _WITHIN)


def _near(answer: str, gold: str) -> float:
    value = _complex(re.sub(r"[^\d+.-]", "", normal_form(answer)))
    wanted = _complex(gold)
    if value is None or wanted is None:
        return 0.0
    return float(abs(value - wanted) < 0.05 * abs(wanted) or value == wanted)


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
        raise ValueError(f"unknown source {source!r}; {nearest(source, list(SOURCES))}")
    if isinstance(gold, (list, tuple)):
        return max((soft_score(answer, accepted, source=source) for accepted in gold), default=0.0)
    if gold is None:
        raise ValueError("there is no gold to compare with; give the task an answer")
    return 0.0 if answer is None else SOURCES[key](answer[-LONGEST_ANSWER:], str(gold))
