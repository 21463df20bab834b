"""Every arm of every study still computes its stored numbers: a swapped arm or a turned sign shows here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ferrule import papers
from ferrule.studies import golden

GOLDENS = Path(__file__).parents[2] / "claims" / "goldens"
SLUGS = papers.studies()
ARMS = [(slug, arm) for slug in SLUGS for arm in papers.study(slug).arms]


@pytest.mark.parametrize(("slug", "arm"), ARMS)
def test_an_arm_computes_its_stored_numbers(slug: str, arm: str, one_thread: None) -> None:
    stored = golden.read(GOLDENS, slug)["arms"]
    assert arm in stored, "no numbers are stored; python scripts/goldens.py stores them"
    assert golden.differences(stored[arm], golden.golden(papers.study(slug), arm)) == []


@pytest.mark.parametrize("slug", SLUGS)
def test_conditions_and_arms_are_those_that_are_stored(slug: str) -> None:
    """A lost condition, another threshold or a turned difference shows on the stored numbers of the arms."""
    study, stored = papers.study(slug), golden.read(GOLDENS, slug)
    assert set(stored["arms"]) == set(study.arms)
    measured = golden.asked(study, stored["arms"])
    assert list(measured) == list(stored["asks"])
    for name, numbers in measured.items():
        assert numbers == pytest.approx(stored["asks"][name], rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize("slug", SLUGS)
def test_no_two_arms_measure_the_same(slug: str) -> None:
    stored = golden.read(GOLDENS, slug)["arms"]
    numbers = [json.dumps(row) for rows in stored.values() for row in rows.values()]
    assert len(set(numbers)) == len(numbers)
