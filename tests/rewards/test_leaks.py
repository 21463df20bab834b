"""Texts that give an answer away: stated, in another form, as an expression."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ferrule.core.records import Task
from ferrule.rewards.leaks import PROBES, leaks

TASK = Task("t", "?", answer="42", meta={"verifier": "numeric"})


@pytest.mark.parametrize(
    ("text", "leaking"),
    [
        ("Use the second procedure.", False),
        ("The answer is 42.", True),
        ("It is 42", True),
        ("Note that 142 and 42.5 and x42 are other numbers", False),
        ("Compute 6*7 first", True),
        ("Compute (20 + 1) * 2", True),
        ("Compute 6*8 first, then 1/0", False),
        ("", False),
    ],
)
def test_probes(text: str, leaking: bool) -> None:
    assert leaks(text, TASK) is leaking


@pytest.mark.parametrize(
    ("text", "answer", "leaking"),
    [
        ("First do step 2.", "x^2", False),
        ("Try step 3 twice", "(1, 3)", False),
        ("use rule 5", "Room 5B", False),
        ("It is 4,200", "4200", True),
        (r"It is \frac{8400}{2}", "4200", True),
        ("It is 42e2", "4200", True),
        ("It is 0.42e4", "4200", True),
        (r"It is \frac{1}{2}", "1/2", True),
        ("It is .5", "1/2", True),
        ("It is 50%", "1/2", True),
        ("It is 1/3", "1/2", False),
        ("It is 3/6", r"\frac{1}{2}", True),
        ("x" + "(" * 300 + "9**9**9", "4200", False),
    ],
)
def test_numbers_in_another_form(text: str, answer: str, leaking: bool) -> None:
    assert leaks(text, replace(TASK, answer=answer)) is leaking


def test_further_probes_and_several_answers() -> None:
    assert leaks("forty-two", TASK, probes=(*PROBES, lambda text, task: "forty" in text))
    assert leaks("so paris", replace(TASK, answer=["Rome", "Paris"]))
    assert not leaks("so paris 3+4", replace(TASK, answer="Berlin"))
    assert not leaks("None", replace(TASK, answer=None))
