"""Every arm of every study still computes its stored numbers: a swapped arm or a turned sign shows here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ferrule import papers
from ferrule.studies import golden
from ferrule.studies.conditions import Rows

GOLDENS = Path(__file__).parents[2] / "claims" / "goldens"
SLUGS = [
    slug
    for slug in papers.slugs()
    if (Path(papers.__file__).parent / "claims" / f"{slug.replace('-', '_')}.py").is_file()
]
ARMS = [(slug, arm) for slug in SLUGS for arm in papers.study(slug).arms]


@pytest.mark.parametrize(("slug", "arm"), ARMS)
def test_an_arm_computes_its_stored_numbers(slug: str, arm: str) -> None:
    stored = golden.read(GOLDENS, slug)
    assert arm in stored, "no numbers are stored; python scripts/goldens.py stores them"
    assert golden.differences(stored[arm], golden.golden(papers.study(slug), arm)) == []


@pytest.mark.parametrize("slug", SLUGS)
def test_every_condition_reads_rows_that_are_there(slug: str) -> None:
    """On the stored numbers of all arms every condition gives a number, and no two arms have the same numbers."""
    study, stored = papers.study(slug), golden.read(GOLDENS, slug)
    assert set(stored) == set(study.arms)
    machine = dict.fromkeys(study.machine, 1.0)
    rows: Rows = {name: {**machine, **row} for arm in stored.values() for name, row in arm.items()}
    for condition in study.asks:
        assert isinstance(condition.value(rows), float)
    numbers = [json.dumps(row) for row in rows.values()]
    assert len(set(numbers)) == len(numbers), "two arms measure the same"
