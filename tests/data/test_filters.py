"""Which traces are learned from: what they gain, and checks of their text."""

from __future__ import annotations

from typing import Any

import pytest

from ferrule.data import filters
from ferrule.data.filters import Trace, refused, tool_advantage


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (Trace(0.75, 0.25, 8000, True, 3), ""),
        (Trace(1, 1, 3000, True, 1), "no gain"),
        (Trace(0.5, 0, 40000, True, 9), "overlong"),
        (Trace(0.5, 0.75, 5000, True, 2), "no gain"),
        (Trace(0.25, 0, 6000, False, 2), "wrong answer"),
        (Trace(0.25, 0, 6000, True, 0), "no call"),
        (Trace(0.25, 0, 6000, True, 2, unresolved=1), "unresolved call"),
        (Trace(0, 0, 6000, True, 2), "no gain"),
    ],
)
def test_which_traces_are_learned_from(trace: Trace, reason: str) -> None:
    assert refused(trace) == reason


def test_a_problem_that_is_never_solved_has_no_advantage() -> None:
    assert tool_advantage(0.75, 0.25) == 0.5
    assert tool_advantage(0, 0.5) == -0.5
    assert refused(Trace(0, 0, 1, True, 1), least_gain=-2.0) == "no gain"


def test_checks_of_texts() -> None:
    def block(lines: int) -> str:
        return "```python\n# why\n\n" + "x = 1\n" * lines + "```\n"

    assert filters.effective_lines("# a\n\n  # b\nx = 1\n") == 1
    assert filters.substantial_code(block(6) + block(6) + block(5))  # 1 of 3, at most ceil(1.2) = 2
    assert not filters.substantial_code(block(6) + block(5) * 3)  # 3 of 4, at most 2
    assert filters.substantial_code(block(6) * 3 + block(5) * 2)  # 2 of 5, at most 2
    assert filters.substantial_code("no code")
    assert filters.paired_dollars("$x$ costs \\$5")
    assert not filters.paired_dollars("$x costs")
    assert not filters.repeats("a" * 39)  # twenty runs of twenty
    assert filters.repeats("a" * 40)


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({}, ""),
        ({"answered": False, "correct": False}, "no answer"),
        ({"passes": ()}, "no call"),
        ({"passes": (True, False), "correct": False}, "failed call"),
        ({"correct": False}, "wrong answer"),
        ({"text": "```python\nx = 1\n```\n" * 2}, "short code"),  # both, of which ceil(0.8) = 1 may be
        ({"text": "$x"}, "unpaired dollars"),
        ({"text": "a" * 40}, "repetition"),
        ({"tokens": 2999, "least_tokens": 3000}, "too short"),
        ({"tokens": 3000, "least_tokens": 3000}, ""),
    ],
)
def test_which_solutions_are_learned_from(changes: dict[str, Any], flaw: str) -> None:
    given: dict[str, Any] = {"text": "fine", "answered": True, "passes": (True,), "correct": True, **changes}
    assert filters.solution_flaw(given.pop("text"), **given) == flaw
