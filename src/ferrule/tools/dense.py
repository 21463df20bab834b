"""Retrieval by vectors: any encoder of texts, or word vectors learned from the documents themselves.

Source of the word vectors: Deerwester et al., "Indexing by Latent Semantic Analysis" (1990).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ferrule.tools.search import Document, Retrieve

__all__ = ["Encode", "WordVectors", "dense", "unit_vectors", "word_vectors", "words_of"]

Vectors = npt.NDArray[np.float32]
Encode: TypeAlias = Callable[[Sequence[str]], npt.ArrayLike]
"""``encode(texts)`` returns a vector per text, shape (texts, size), as ``SentenceTransformer.encode`` does."""


def dense(documents: Sequence[Document], encode: Encode, *, batch: int = 1024) -> Retrieve:
    """Return retrieval by the cosine of the vectors of a query and of every document; equal ones keep their order.

    Documents are encoded once, ``batch`` at a time, and kept as float32. Raises ``ValueError`` for no documents, and
    for an encoder that returns something other than a vector per text.
    """
    if not documents:
        raise ValueError("dense retrieval needs at least one document")
    texts = [f"{document.title} {document.text}" for document in documents]
    parts = [unit_vectors(encode, texts[start : start + batch]) for start in range(0, len(texts), batch)]
    matrix = np.ascontiguousarray(np.concatenate(parts))

    def retrieve(query: str, k: int) -> list[tuple[Document, float]]:
        scores, k = matrix @ unit_vectors(encode, [query])[0], min(k, len(documents))
        if k < 1:
            return []
        near = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
        return [(documents[i], float(scores[i])) for i in near[np.argsort(-scores[near], kind="stable")[:k]]]

    return retrieve


def unit_vectors(encode: Encode, texts: Sequence[str]) -> Vectors:
    """Return the vectors of texts with length 1, shape (texts, size); a vector of zeros stays one.

    Raises ``ValueError`` for an encoder that returns something other than a vector per text.
    """
    vectors = np.asarray(encode(texts), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise ValueError(
            f"the encoder made an array of shape {vectors.shape} of {len(texts)} texts; (texts, size) is due"
        )
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def words_of(text: str) -> list[str]:
    """Return the words of a text in small letters."""
    return re.findall(r"\w+", text.lower())


@dataclass(frozen=True)
class WordVectors:
    """An encoder that adds up the vectors of a text's words; words that it does not know add nothing."""

    places: Mapping[str, int] = field(repr=False)
    vectors: Vectors = field(repr=False)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return a vector per text, shape (texts, size)."""
        rows = [
            self.vectors[[self.places[word] for word in words_of(text) if word in self.places]].sum(0) for text in texts
        ]
        return np.asarray(rows, dtype=np.float32)


def word_vectors(texts: Sequence[str], *, size: int = 128, seed: int = 0) -> WordVectors:
    """Learn word vectors from texts: words that stand in the same texts point the same way.

    They are the directions of the ``size`` largest singular values of the matrix of texts and words (how often a word
    stands in a text, damped and weighted by its rarity), each word weighted by its rarity as well. Needs SciPy. Raises
    ``ValueError`` for texts with too few different words or too few texts.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import svds

    counts = [Counter(words_of(text)) for text in texts]
    places = {word: place for place, word in enumerate(dict.fromkeys(word for row in counts for word in row))}
    if min(len(texts), len(places)) <= size:
        raise ValueError(f"{len(texts)} texts of {len(places)} words are too few for vectors of size {size}")
    columns = np.array([places[word] for row in counts for word in row])
    idf = np.log((1.0 + len(texts)) / (1.0 + np.bincount(columns)))
    values = np.log1p(np.array([count for row in counts for count in row.values()], dtype=np.float64)) * idf[columns]
    rows = np.repeat(np.arange(len(counts)), [len(row) for row in counts])
    matrix = csr_array((values, (rows, columns)), shape=(len(texts), len(places)))
    start = np.random.default_rng(seed).standard_normal(min(matrix.shape))
    _, _, directions = svds(matrix, k=size, v0=start)
    return WordVectors(places, (directions.T * idf[:, None]).astype(np.float32))
