"""Makers of tools for the world ``skills`` that err: a source with a mistake, a test with a wrong expected value."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ferrule.worlds.skills import SKILLS

__all__ = ["MISTAKES", "proposed", "source_of"]

MISTAKES: Mapping[str, tuple[str, str]] = {
    "digit_sum": ("int(digit)", "1"),
    "divisors": ("range(1, n + 1)", "range(1, n)"),
    "collatz": ("steps + 1", "steps + 2"),
    "turned": ("[::-1]", "[::1]"),
    "common_divisor": ("return n", "return m"),
    "primes_between": ("all(", "any("),
}
"""By skill: what stands in its source, and the mistake that takes its place."""


def source_of(skill: str, right: bool = True) -> str:
    """Return the source of a skill, right or with its mistake."""
    source = SKILLS[skill].source
    return source if right else source.replace(*MISTAKES[skill])


def proposed(skill: str, rng: np.random.Generator, *, right: float = 0.5, tested: float = 0.7) -> tuple[str, str]:
    """Draw a source, right with one probability, and a test whose expected value is right with another."""
    source = source_of(skill, bool(rng.random() < right))
    numbers = sorted(int(x) for x in rng.integers(100, 1000, len(SKILLS[skill].numbers)))
    expected = SKILLS[skill].solve(*numbers) + (0 if rng.random() < tested else 1)
    return source, f"assert {skill}({', '.join(map(str, numbers))}) == {expected}"
