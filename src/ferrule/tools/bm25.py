"""BM25 over words: an index in numpy.

Source: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009), in the form Lucene uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

__all__ = ["BM25"]

Floats = npt.NDArray[np.float64]
_FREQUENT = 8
"""A word in more than one document of so many is added to all of them at once, which is faster than to each."""


class BM25:
    """An index of documents given as words.

    A document scores the sum over the query's words w of ``idf(w) * tf / (tf + k1 * (1 - b + b * length / mean))``
    with ``idf(w) = ln(1 + (n - df + 0.5) / (df + 0.5))``; n documents, df of them with w, tf times in this one. The
    index takes about 16 bytes for every different word of every document.
    """

    def __init__(self, corpus: Sequence[Sequence[str]], k1: float = 1.5, b: float = 0.75) -> None:
        """Count the words of every document."""
        size = self._size = len(corpus)
        lengths = np.fromiter(map(len, corpus), dtype=np.int64, count=size)
        self._words = {word: place for place, word in enumerate(dict.fromkeys(chain.from_iterable(corpus)))}
        every = (self._words[word] for word in chain.from_iterable(corpus))
        words = np.fromiter(every, dtype=np.int64, count=int(lengths.sum()))
        keys, counts = np.unique(words * size + np.repeat(np.arange(size), lengths), return_counts=True)
        word, self._rows = np.divmod(keys, max(size, 1))
        self._ends = np.searchsorted(word, np.arange(len(self._words) + 1))
        df = np.diff(self._ends)
        idf = np.log(1.0 + (size - df + 0.5) / (df + 0.5))
        norm = k1 * (1 - b + b * lengths / max(float(lengths.mean()), 1.0)) if size else np.zeros(0)
        self._values: Floats = idf[word] * (counts / (counts + norm[self._rows]))
        self._whole = {int(place): self._spread(int(place)) for place in np.flatnonzero(df * _FREQUENT > size)}

    def _spread(self, word: int) -> Floats:
        """Return what a word adds to each of all documents."""
        begin, end = self._ends[word], self._ends[word + 1]
        values = np.zeros(self._size)
        values[self._rows[begin:end]] = self._values[begin:end]
        return values

    def scores(self, words: Sequence[str]) -> Floats:
        """Return one score per document; 0 where no word occurs."""
        scores = np.zeros(self._size)
        for place in (self._words[word] for word in words if word in self._words):
            if place in self._whole:
                scores += self._whole[place]
            else:
                begin, end = self._ends[place], self._ends[place + 1]
                scores[self._rows[begin:end]] += self._values[begin:end]
        return scores

    def best(self, words: Sequence[str], k: int) -> list[tuple[int, float]]:
        """Return places and scores of the ``k`` best documents, the best first and equal ones in their order.

        Documents with a score of 0 are left out.
        """
        scores, k = self.scores(words), min(k, self._size)
        if k < 1:
            return []
        near = np.flatnonzero(scores >= np.partition(scores, self._size - k)[self._size - k])
        places = near[np.argsort(-scores[near], kind="stable")[:k]]
        return [(int(place), float(scores[place])) for place in places if scores[place] > 0]
