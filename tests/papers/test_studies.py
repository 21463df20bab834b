"""Every arm of every study still computes its stored numbers: a swapped arm or a turned sign shows here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ferrule import papers
from ferrule.studies import golden
from ferrule.studies.conditions import Condition, at_least, bootstrap_interval, student_interval, within
from ferrule.studies.paper import verdict
from ferrule.studies.study import Study

GOLDENS = Path(__file__).parents[2] / "claims" / "goldens"
SLUGS = papers.studies()
ARMS = [(slug, arm) for slug in SLUGS for arm in papers.study(slug).arms]


@pytest.mark.parametrize(("slug", "arm"), ARMS)
def test_an_arm_computes_its_stored_numbers(slug: str, arm: str, one_thread: None) -> None:
    stored = golden.read(GOLDENS, slug)
    assert arm in stored["arms"], "no numbers are stored; python scripts/goldens.py stores them"
    assert golden.misses(stored, arm, golden.golden(papers.study(slug), arm)) == []


@pytest.mark.parametrize("slug", SLUGS)
def test_conditions_and_arms_are_those_that_are_stored(slug: str) -> None:
    study, stored = papers.study(slug), golden.read(GOLDENS, slug)
    assert set(stored["arms"]) == set(study.arms)
    assert golden.asks_differ(stored["asks"], golden.asked(study, stored["arms"])) == []


def changes_of(study: Study, place: int) -> dict[str, Study]:
    """Return the study with one condition spoilt in every way there is."""
    condition, asks = study.asks[place], study.asks
    other = student_interval if condition.interval is not student_interval else bootstrap_interval
    spoilt = {
        "turned": replace(condition, value=lambda rows: -condition.value(rows)),
        "another threshold": replace(condition, threshold=condition.threshold + 0.01),
        "another interval": replace(condition, interval=other),
        "judged from the other side": replace(
            condition, judge=lambda interval, t: condition.judge((2 * t - interval[1], 2 * t - interval[0]), t)
        ),
        "judged for equivalence, or no longer": replace(
            condition, judge=verdict if condition.judge is not verdict else within("", condition.value, 1.0).judge
        ),
        "another part in the verdict": replace(condition, decides=not condition.decides),
    }
    changed = {name: (*asks[:place], one, *asks[place + 1 :]) for name, one in spoilt.items()}
    changed["dropped"] = (*asks[:place], *asks[place + 1 :])
    changed["once more"] = (*asks[:place], replace(condition, name=f"{condition.name}, again"), *asks[place:])
    return {name: with_asks(study, conditions) for name, conditions in changed.items()}


def with_asks(study: Study, conditions: tuple[Condition, ...]) -> Study:
    """Return the study with these conditions; where none would decide, which a study refuses, one more does."""
    if not any(condition.decides for condition in conditions):
        conditions = (*conditions, at_least("nothing", lambda rows: 0.0, 0.0))
    return replace(study, asks=conditions)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_condition_cannot_be_dropped_or_turned_unseen(slug: str) -> None:
    """Of every condition: value, direction, threshold, interval, judge, and whether it decides are in the golden."""
    study, stored = papers.study(slug), golden.read(GOLDENS, slug)
    for place, condition in enumerate(study.asks):
        for name, changed in changes_of(study, place).items():
            seen = golden.asks_differ(stored["asks"], golden.asked(changed, stored["arms"]))
            assert seen, f"{condition.name}: {name}, and no stored number says so"


@pytest.mark.parametrize("slug", SLUGS)
def test_a_condition_reads_what_it_names(slug: str) -> None:
    """A condition is about the arms: with any numbers in their place it says something else."""
    study, stored = papers.study(slug), golden.read(GOLDENS, slug)
    for name, numbers in golden.asked(study, stored["arms"]).items():
        assert numbers["probe"] != numbers["value"], name


@pytest.mark.parametrize("slug", SLUGS)
def test_no_two_arms_measure_the_same(slug: str) -> None:
    stored = golden.read(GOLDENS, slug)["arms"]
    numbers = [json.dumps(row) for rows in stored.values() for row in rows.values()]
    assert len(set(numbers)) == len(numbers)
