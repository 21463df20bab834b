"""A small encoder that is trained to put queries near the documents they need: vectors of words, added up.

Source of the loss: "ToolLLM: Facilitating Large Language Models to Master 16000+ Real-world APIs" (45), its retriever,
with the other documents of a batch as negatives; hard negatives after "Approximate Nearest Neighbor Negative
Contrastive Learning for Dense Text Retrieval" (arXiv 2007.00808).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ferrule.tools.dense import WordVectors, dense, word_vectors, words_of
from ferrule.tools.search import Document, Retrieve

__all__ = ["Needs", "hard_negatives", "loss_and_gradient", "train_vectors"]

Needs: TypeAlias = Sequence[tuple[str, Collection[str]]]
"""Queries, each with the ids of all documents that it needs."""
Doubles: TypeAlias = npt.NDArray[np.float64]


def hard_negatives(retrieve: Retrieve, needs: Needs, *, count: int = 1) -> list[list[Document]]:
    """Return for each query the ``count`` documents that are found first among those that it does not need.

    They are what a retrieval has most to learn from, by any encoder; fewer where no more are found.
    """
    found = [(retrieve(query, count + len(set(needed))), needed) for query, needed in needs]
    return [[document for document, _ in best if document.id not in needed][:count] for best, needed in found]


def train_vectors(
    needs: Needs, documents: Sequence[Document], *, start: WordVectors | None = None, epochs: int = 10, batch: int = 32,
    rate: float = 0.05, temperature: float = 0.05, hard: int = 2, seed: int = 0,
) -> WordVectors:  # fmt: skip
    """Train word vectors so that the cosine of a query and a document that it needs is larger than of any other.

    ``L = -ln(exp(s+ / t) / sum exp(s / t))`` for every query and needed document, with the cosines ``s`` of the
    documents of its batch (those that the query needs as well left out) and of ``hard`` negatives for each, looked up
    anew in every epoch; ``t`` is the ``temperature``. Training begins from ``start`` (None: ``word_vectors`` of
    documents and queries) and takes steps of Adam at ``rate``, in units of the root mean square of all vectors. Words
    that no text held stay unknown. Needs SciPy. The same seed gives the same vectors.

    Raises ``ValueError`` for no queries, a query that needs no document or an unknown one, and limits out of range.
    """
    if not needs or min(epochs, batch) < 1 or hard < 0 or not (rate > 0 and temperature > 0):
        raise ValueError(
            f"{len(needs)} queries, epochs={epochs}, batch={batch}, rate={rate}, temperature={temperature}, "
            f"hard={hard}: the last may be 0, all others are larger"
        )
    places = {document.id: place for place, document in enumerate(documents)}
    for query, needed in needs:
        if not needed or any(each not in places for each in needed):
            raise ValueError(f"{query[:60]!r} needs {sorted(needed)[:5]}; name ids of documents, one at least")
    texts, queries = [f"{one.title} {one.text}" for one in documents], [query for query, _ in needs]
    start = start or word_vectors([*texts, *queries])
    count_DV, count_QV = _counts(start, texts), _counts(start, queries)
    learned, draw = _Adam(start.vectors.astype(np.float64), rate), random.Random(seed)
    pairs = [(query, places[each]) for query, (_, needed) in enumerate(needs) for each in sorted(needed)]
    for _ in range(epochs):
        now = dense(documents, WordVectors(start.places, learned.values.astype(np.float32)))
        harder = hard_negatives(now, needs, count=hard) if hard else [[] for _ in needs]
        draw.shuffle(pairs)
        for first in range(0, len(pairs), batch):
            chosen = pairs[first : first + batch]
            asked = [query for query, _ in chosen]
            shown = [place for _, place in chosen] + [places[one.id] for query in asked for one in harder[query]]
            other_QD = [[documents[place].id not in needs[query][1] for place in shown] for query in asked]
            counts = count_QV[asked], count_DV[shown]
            learned.step(loss_and_gradient(learned.values, *counts, np.array(other_QD), temperature=temperature)[1])
    return WordVectors(start.places, learned.values.astype(np.float32))


def loss_and_gradient(
    vectors: Doubles, count_QV: Any, count_DV: Any, other_QD: npt.NDArray[np.bool_], *, temperature: float
) -> tuple[float, Doubles]:
    """Return the mean loss of a batch (nats) and its gradient by the vectors of words, shape (words, size).

    ``count_QV`` and ``count_DV`` say how often each word stands in queries and documents; query i needs document i, and
    ``other_QD`` marks the documents that a query does not need.
    """
    (query_QC, length_Q), (document_DC, length_D) = _units(count_QV @ vectors), _units(count_DV @ vectors)
    own = np.arange(len(query_QC))
    counted_QD = other_QD.copy()
    counted_QD[own, own] = True
    score_QD = np.where(counted_QD, query_QC @ document_DC.T / temperature, -np.inf)
    score_QD -= score_QD.max(axis=1, keepdims=True)
    chance_QD = np.exp(score_QD)
    chance_QD /= chance_QD.sum(axis=1, keepdims=True)
    loss = float(-np.log(np.maximum(chance_QD[own, own], 1e-300)).mean())
    chance_QD[own, own] -= 1.0
    chance_QD /= len(own) * temperature
    back_Q = _through(chance_QD @ document_DC, query_QC, length_Q)
    back_D = _through(chance_QD.T @ query_QC, document_DC, length_D)
    return loss, count_QV.T @ back_Q + count_DV.T @ back_D


def _counts(words: WordVectors, texts: Sequence[str]) -> Any:
    """Return how often each known word stands in each text, as a sparse matrix."""
    from scipy.sparse import csr_array

    counted = [Counter(words.places[word] for word in words_of(text) if word in words.places) for text in texts]
    columns = [place for row in counted for place in row]
    rows = np.repeat(np.arange(len(counted)), [len(row) for row in counted])
    values = np.array([count for row in counted for count in row.values()], dtype=np.float64)
    return csr_array((values, (rows, columns)), shape=(len(texts), len(words.vectors)))


def _units(sums: Doubles) -> tuple[Doubles, Doubles]:
    """Return rows with length 1, and the lengths they had."""
    lengths = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return sums / lengths, lengths


def _through(back: Doubles, units: Doubles, lengths: Doubles) -> Doubles:
    """Return the gradient of rows before they were given length 1."""
    along: Doubles = (back * units).sum(axis=1, keepdims=True)
    return (back - along * units) / lengths


class _Adam:
    """Values that follow gradients; a step is in units of how large the values are at the beginning."""

    def __init__(self, values: Doubles, rate: float) -> None:
        self.values, self.rate = values, rate * float(np.sqrt((values**2).mean()))
        self.mean, self.square, self.steps = np.zeros_like(values), np.zeros_like(values), 0

    def step(self, gradient: Doubles, first: float = 0.9, second: float = 0.999) -> None:
        self.steps += 1
        self.mean += (1 - first) * (gradient - self.mean)
        self.square += (1 - second) * (gradient**2 - self.square)
        mean, square = self.mean / (1 - first**self.steps), self.square / (1 - second**self.steps)
        self.values -= self.rate * mean / (np.sqrt(square) + 1e-12)
