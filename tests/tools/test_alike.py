"""How alike texts are."""

from __future__ import annotations

import math

import pytest

from ferrule.tools.alike import by_vectors, by_words, sentence_bleu

RAW = "Get the keywords that have been added to a movie."
FIRST = "Returns the keywords of a movie given movie_id ; each has id and name"
SECOND = "Returns the keywords of a movie given movie_id ; each has an id and a name"


def test_bleu_with_smoothing_of_method_4() -> None:
    """FIRST has 14 words; it shares 3 with RAW, 1 of 13 pairs, and no longer run.

    Shares 3/14 and 1/13, then ln(14) / (5 * 2) of 12 and ln(14) / (5 * 4) of 11; RAW is shorter, so nothing is taken.
    """
    missing = [math.log(14) / 10 / 12, math.log(14) / 20 / 11]
    assert sentence_bleu(RAW, FIRST) == pytest.approx((3 / 14 * 1 / 13 * missing[0] * missing[1]) ** 0.25)
    assert sentence_bleu(RAW, FIRST) == pytest.approx(0.045665, abs=1e-6)
    assert sentence_bleu(FIRST, SECOND) == pytest.approx(0.709811, abs=1e-6)
    assert sentence_bleu(FIRST, FIRST.upper()) == 1.0


def test_bleu_of_texts_without_shared_words_and_of_short_ones() -> None:
    assert sentence_bleu("a b c", "d e f") == 0.0
    assert sentence_bleu("a b c d e", "") == 0.0
    assert sentence_bleu("one", "one") == 0.0  # a single word has no run of two, and no smoothing for it
    assert sentence_bleu("a b c d e f g h", "a b c d") == pytest.approx(math.exp(1 - 8 / 4))


def test_cosines() -> None:
    """Words a a b against a b b: (2 + 2) / (sqrt 5 * sqrt 5)."""
    assert by_words("a a b", "B, b a!") == pytest.approx(4 / 5)
    assert [by_words("", ""), by_words("a", ""), by_words("a", "b")] == [1.0, 0.0, 0.0]
    table = {"x": [3.0, 4.0], "y": [4.0, 3.0], "none": [0.0, 0.0]}
    alike = by_vectors(lambda texts: [table[text] for text in texts])
    assert alike("x", "y") == pytest.approx(24 / 25)
    assert alike("x", "none") == 0.0
