"""Scores of answers by the data set they come from."""

from __future__ import annotations

import pytest

from ferrule.rewards.soft import normal_form, soft_score


def test_scores_of_facts() -> None:
    """One letter in ten is wrong: .9, which is not above .9. Two edits in three letters are too far."""
    assert soft_score("Washingtan", ["Washington", "DC"], source="nq") == 0.9
    assert soft_score("The USA", "usa", source="nq") == 1
    assert soft_score("UAS", "usa", source="nq") == 0


def test_scores_of_numbers() -> None:
    assert soft_score("1.0005", "1", source="calculator") == 1
    assert soft_score("1.0015", "1", source="calculator") == 0
    assert soft_score("1+2i", "1 + 2i", source="calculator") == 1
    assert soft_score("0.999", "1", source="calculator") == soft_score("1.001", "1", source="calculator") == 1
    assert soft_score("two", "2", source="complex") == 1
    assert soft_score("about 105.1 km", "100", source="complex") == 0
    assert soft_score("104", "100", source="complex") == 1
    assert soft_score("two", "2", source="gsm8k") == 1
    assert soft_score("1,234", "1234", source="dapo_math") == 1
    assert soft_score("204", "204", source="aime2025") == 1


@pytest.mark.parametrize("source", ["nq", "calculator", "complex", "default"])
@pytest.mark.parametrize("answer", [None, "", "+", "--1", "1e999", "nan", "é" * 300])
def test_no_answer_breaks_a_rule(source: str, answer: str | None) -> None:
    assert soft_score(answer, "7", source=source) == 0


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'gsm8k'"):
        soft_score("1", "1", source="gsm8")


def test_only_the_end_of_an_answer_counts() -> None:
    assert soft_score("usa" + "x" * 100, "usa", source="nq") == 0
    assert normal_form(" Twelve ") == "12"


def test_a_missing_gold_is_no_text() -> None:
    with pytest.raises(ValueError, match="no gold"):
        soft_score("None", None, source="gsm8k")
