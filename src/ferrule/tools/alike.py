"""How alike two texts are: by their runs of words (BLEU), and by the cosine of their words or of their vectors.

Sources: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation" (2002); Chen and Cherry, "A
Systematic Comparison of Smoothing Techniques for Sentence-Level BLEU" (2014).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from ferrule.tools.dense import Encode

__all__ = ["Alike", "by_vectors", "by_words", "sentence_bleu"]

Alike: TypeAlias = Callable[[str, str], float]
"""Tells how alike two texts are, 1 for equal ones."""


def sentence_bleu(reference: str, text: str, *, longest: int = 4) -> float:
    """Return the BLEU of one text against one reference, 0 to 1: runs of 1 to ``longest`` words in small letters.

    ``exp(sum_n ln(p_n) / longest)`` times the penalty of short texts, ``min(1, exp(1 - len(reference) / len(text)))``.
    Where no run of a length is shared, ``p_n`` is ``ln(len(text)) / (5 * 2^i)`` of the number of runs, ``i`` counting
    such lengths from 1 (method 4 of Chen and Cherry; 5 is their constant). It is 0 where no word is shared.
    """
    wanted, words = reference.lower().split(), text.lower().split()
    if not set(wanted) & set(words):
        return 0.0
    total, missing = 0.0, 0
    for size in range(1, longest + 1):
        runs, known = _runs(words, size), _runs(wanted, size)
        share = Fraction((runs & known).total(), max(1, runs.total()))
        if share:
            total += math.log(share)
        elif len(words) > 1:
            missing += 1
            total += math.log(math.log(len(words)) / (2**missing * 5.0) / max(1, runs.total()))
        else:
            return 0.0
    short = min(0.0, 1.0 - len(wanted) / len(words))
    return math.exp(total / longest + short)


def _runs(words: list[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + size]) for start in range(len(words) - size + 1))


def by_words(first: str, second: str) -> float:
    """Return the cosine of how often two texts say each word, 0 to 1; 1 for two texts without words."""
    counts = [Counter(re.findall(r"\w+", text.lower())) for text in (first, second)]
    if not counts[0] and not counts[1]:
        return 1.0
    product = sum(count * counts[1][word] for word, count in counts[0].items())
    sizes = [math.sqrt(sum(count * count for count in one.values())) for one in counts]
    return product / (sizes[0] * sizes[1]) if product else 0.0


def by_vectors(encode: Encode) -> Alike:
    """Return the cosine of the vectors that an encoder makes of two texts; 0 where one of them has no length."""

    def alike(first: str, second: str) -> float:
        one, two = np.asarray(encode([first, second]), dtype=np.float64)
        size = float(np.linalg.norm(one) * np.linalg.norm(two))
        return float(one @ two) / size if size else 0.0

    return alike
