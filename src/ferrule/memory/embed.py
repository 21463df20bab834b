"""A deterministic encoder of texts: hashed words and pairs of words, the same on every machine and in every process.

Source: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (2009).
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["HashedWords"]


_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by can do does for from has have how i if in is it its not of on or so than that "
        "the then there these this to was what when which will with you your",
    )
)


@dataclass(frozen=True)
class HashedWords:
    """An encoder that adds ``1 + ln(count)`` at a signed place for each word, and ``pairs`` times that for each pair.

    Words that stand in nearly every English sentence (``common``) are left out. Rows have length 1; a text without a
    word is a row of zeros.
    """

    size: int = 1024
    pairs: float = 0.5
    common: frozenset[str] = field(default=_COMMON, repr=False)

    def __post_init__(self) -> None:
        """Refuse an encoder without places."""
        if self.size < 1:
            raise ValueError(f"HashedWords.size is {self.size}; the least is 1")

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return a vector per text, shape (texts, size)."""
        rows = np.zeros((len(texts), self.size), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            words = [word for word in re.findall(r"\w+", text.lower()) if word not in self.common]
            for features, weight in ((words, 1.0), (pairwise(words), self.pairs)):
                for feature, count in Counter(features).items():
                    digest = zlib.crc32(repr(feature).encode())
                    sign = 1.0 if digest & 1 else -1.0
                    row[(digest >> 1) % self.size] += sign * weight * (1.0 + math.log(count))
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows /= np.where(norms > 0, norms, 1.0)
        return rows
