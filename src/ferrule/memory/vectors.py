"""Vectors of texts that are compared again and again: each text is encoded once, into one array that grows."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ferrule.tools.dense import Encode, unit_vectors

__all__ = ["Vectors"]


class Vectors:
    """The vectors of length 1 that ``encode`` makes of texts. Safe for threads."""

    def __init__(self, encode: Encode) -> None:
        self.encode = encode
        self._places: dict[str, int] = {}
        self._table: npt.NDArray[np.float32] = np.zeros((0, 0), dtype=np.float32)
        self._lock = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return a vector per text, shape (texts, size)."""
        table, places = self._placed(texts)
        return table[places]

    def scores(self, query: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the cosine of each text to a query, which is not kept, shape (texts,)."""
        table, places = self._placed(texts)
        products: npt.NDArray[np.float32] = table @ unit_vectors(self.encode, [query])[0]
        return products[places]

    def _placed(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], list[int]]:
        """Return the rows that are filled, and the row of each text."""
        with self._lock:
            fresh = [text for text in dict.fromkeys(texts) if text not in self._places]
            if fresh:
                rows, known = unit_vectors(self.encode, fresh), len(self._places)
                if known + len(fresh) > len(self._table):
                    grown = np.zeros((2 * (known + len(fresh)), rows.shape[1]), dtype=np.float32)
                    if known:
                        grown[:known] = self._table[:known]
                    self._table = grown
                self._table[known : known + len(fresh)] = rows
                self._places |= {text: known + place for place, text in enumerate(fresh)}
            return self._table[: len(self._places)], [self._places[text] for text in texts]
