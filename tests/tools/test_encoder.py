"""A trained encoder: its loss and gradient, what it learns, hard negatives, and refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from ferrule.tools.dense import WordVectors, dense
from ferrule.tools.encoder import hard_negatives, loss_and_gradient, train_vectors
from ferrule.tools.search import Document, bm25

DOCUMENTS = [
    Document("rain", "", "forecast of rain and wind"), Document("trains", "", "departures of trains"),
    Document("share", "", "price of a share"), Document("rate", "", "rate of exchange"),
    Document("tides", "", "high and low water"), Document("films", "", "films on tonight"),
]  # fmt: skip
NEEDS = [
    ("do I need an umbrella", {"rain"}), ("will the picnic get wet", {"rain"}), ("how do I get to Bonn", {"trains"}),
    ("what is a Siemens worth", {"share"}), ("how many euros is a pound worth", {"rate"}),
    ("when can we sail and get back", {"tides", "rain"}), ("something to watch", {"films"}),
]  # fmt: skip
WORDS = sorted(
    {word.lower() for text in [*(d.text for d in DOCUMENTS), *(q for q, _ in NEEDS)] for word in text.split()}
)


def untrained(seed: int = 0, size: int = 8) -> WordVectors:
    vectors = np.random.default_rng(seed).standard_normal((len(WORDS), size)).astype(np.float32)
    return WordVectors({word: place for place, word in enumerate(WORDS)}, vectors)


def first(encode: WordVectors, query: str) -> str:
    return dense(DOCUMENTS, encode)(query, 1)[0][0].id


def test_the_loss_by_hand() -> None:
    """Cosines 1 and 0 at temperature 1: -ln(e / (e + 1)); a document that the query needs as well counts nothing."""
    vectors = np.eye(2)
    query, documents = csr_array([[2.0, 0.0]]), csr_array([[3.0, 0.0], [0.0, 1.0]])
    loss, _ = loss_and_gradient(vectors, query, documents, np.array([[False, True]]), temperature=1.0)
    assert loss == pytest.approx(-math.log(math.e / (math.e + 1)))
    loss, gradient = loss_and_gradient(vectors, query, documents, np.array([[False, False]]), temperature=1.0)
    assert loss == 0.0
    np.testing.assert_array_equal(gradient, np.zeros((2, 2)))


def test_the_gradient_is_that_of_the_loss() -> None:
    """By differences in both directions, of a batch with a repeated word and an empty query."""
    draw = np.random.default_rng(3)
    vectors = draw.standard_normal((5, 3))
    count_QV = csr_array([[1.0, 2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    count_DV = csr_array(draw.integers(0, 3, (4, 5)).astype(float) + np.eye(4, 5))
    other_QD = np.array([[False, True, True, True], [True, False, False, True], [True, True, False, True]])

    def loss(values: Any) -> float:
        return loss_and_gradient(values, count_QV, count_DV, other_QD, temperature=0.5)[0]

    _, gradient = loss_and_gradient(vectors, count_QV, count_DV, other_QD, temperature=0.5)
    for place in np.ndindex(*vectors.shape):
        step = np.zeros_like(vectors)
        step[place] = 1e-5
        assert gradient[place] == pytest.approx((loss(vectors + step) - loss(vectors - step)) / 2e-5, abs=1e-6)


def test_queries_learn_to_find_what_they_need() -> None:
    """Queries share almost no word with their documents, and vectors begin at random."""
    start = untrained()
    before = [first(start, query) in needed for query, needed in NEEDS]
    learned = train_vectors(NEEDS, DOCUMENTS, start=start, epochs=40, batch=3, rate=0.05)
    assert sum(before) < 4
    assert all(first(learned, query) in needed for query, needed in NEEDS)
    assert first(learned, "umbrella for the picnic") == "rain"  # a query that it never saw
    again = train_vectors(NEEDS, DOCUMENTS, start=start, epochs=40, batch=3, rate=0.05)
    np.testing.assert_array_equal(learned.vectors, again.vectors)
    np.testing.assert_array_equal(start.vectors, untrained().vectors)  # what training began from is left alone
    other = train_vectors(NEEDS, DOCUMENTS, start=start, epochs=40, batch=3, rate=0.05, hard=0)
    assert not np.array_equal(learned.vectors, other.vectors)


def test_hard_negatives_are_found_first_and_not_needed() -> None:
    needs = [("price of exchange", {"rate"}), ("high water of the share", {"share", "tides"}), ("zebra", {"films"})]
    found = [[one.id for one in row] for row in hard_negatives(bm25(DOCUMENTS), needs, count=2)]
    assert found[0][0] == "share"
    assert "rate" not in found[0]
    assert not {"share", "tides"} & set(found[1])
    assert found[2] == []
    assert all(len(row) <= 2 for row in found)


@pytest.mark.parametrize(
    ("needs", "how", "told"),
    [
        ([], {}, "0 queries"),
        ([("q", set())], {}, r"'q' needs \[\]; name ids of documents"),
        ([("q", {"rain", "snow"})], {}, r"needs \['rain', 'snow'\]"),
        (NEEDS, {"epochs": 0}, "epochs=0"),
        (NEEDS, {"batch": 0}, "batch=0"),
        (NEEDS, {"hard": -1}, "hard=-1"),
        (NEEDS, {"rate": float("nan")}, "rate=nan"),
        (NEEDS, {"temperature": 0.0}, "temperature=0.0"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(needs: Any, how: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        train_vectors(needs, DOCUMENTS, start=untrained(), **how)
