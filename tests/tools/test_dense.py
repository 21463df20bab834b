"""Retrieval by vectors: cosines, ties, refusals, and word vectors that put words of a kind together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ferrule.core.records import Call
from ferrule.tools.dense import dense, word_vectors
from ferrule.tools.invoke import invoke
from ferrule.tools.search import Document, search_tool

DOCUMENTS = [Document(str(i), "", text) for i, text in enumerate(("cat", "dog", "cat dog", "sea"))]


def axes(texts: Sequence[str]) -> list[list[float]]:
    """Count cats and dogs."""
    return [[3.0 * text.count("cat"), 3.0 * text.count("dog")] for text in texts]


def test_documents_are_ranked_by_the_cosine() -> None:
    """Angles to (1, 0): 0, 90 and 45 degrees; the sea has no direction, and 0 as well. Equal ones stay in order."""
    retrieve = dense(DOCUMENTS, axes, batch=3)
    found = [(document.id, score) for document, score in retrieve("a cat", 4)]
    assert [name for name, _ in found] == ["0", "2", "1", "3"]
    assert [score for _, score in found] == pytest.approx([1.0, 0.5**0.5, 0.0, 0.0])
    assert [document.id for document, _ in retrieve("cat", 2)] == ["0", "2"]
    assert len(retrieve("cat", 9)) == 4
    assert retrieve("cat", 0) == []
    shown = invoke(search_tool(retrieve, k=1), Call("search", {"query": "dog"}))
    assert [row["id"] for row in shown.data] == ["1"]


def test_what_cannot_be_retrieved_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one document"):
        dense([], axes)
    with pytest.raises(ValueError, match=r"shape \(2,\) of 4 texts"):
        dense(DOCUMENTS, lambda texts: [1.0, 2.0])


TEXTS = [f"{pet} {food}" for pet in ("cat", "dog") for food in ("fish", "bone", "milk")] * 3
TEXTS += [f"{sky} {water}" for sky in ("sun", "moon") for water in ("sea", "lake", "rain")] * 3


def test_words_that_stand_beside_the_same_words_are_near() -> None:
    """No text holds "cat" and "dog"; both stand beside the same food, and neither beside the sea."""
    encode = word_vectors(TEXTS, size=2)
    cat, dog, sea = encode(["cat", "dog", "sea"])
    unit = [vector / np.linalg.norm(vector) for vector in (cat, dog, sea)]
    assert unit[0] @ unit[1] > 0.9
    assert abs(unit[0] @ unit[2]) < 0.1
    np.testing.assert_allclose(encode(["cat zebra"])[0], cat)
    np.testing.assert_array_equal(encode(["zebra"])[0], [0, 0])
    np.testing.assert_array_equal(encode.vectors, word_vectors(TEXTS, size=2).vectors)
    with pytest.raises(ValueError, match="too few for vectors of size 40"):
        word_vectors(TEXTS, size=40)
