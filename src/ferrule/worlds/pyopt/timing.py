"""Judging measured times: which rewrite is accepted, and the interval of a speed-up.

Source: "LLM Interactive Optimization of Open Source Python Libraries" (paper 35).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean, median
from typing import Literal, TypeAlias

__all__ = ["ClassTimes", "Decision", "accepts", "median_interval", "ratios"]

ClassTimes: TypeAlias = Mapping[str, Sequence[float]]
"""What calls took (seconds), per class of inputs, a number per repeat."""


@dataclass(frozen=True)
class Decision:
    """Whether a program takes the place of another, its ``gain`` (geometric mean over classes), and that by class."""

    why: Literal["gain", "too small", "regression"]
    gain: float
    by_class: Mapping[str, float]

    @property
    def accepted(self) -> bool:
        """True for a gain."""
        return self.why == "gain"

    @property
    def worst(self) -> str:
        """The class with the smallest gain."""
        return min(self.by_class, key=lambda kind: self.by_class[kind])


def accepts(
    before: ClassTimes, after: ClassTimes, *, least_gain: float = 1.05, most_regression: float = 0.05
) -> Decision:
    """Compare medians per class: accepted is a geometric mean of at least ``least_gain`` where no class is slower.

    Slower is a class whose time grew by more than the share ``most_regression``. Raises ``ValueError`` for times of
    other classes.
    """
    if set(before) != set(after) or not before:
        raise ValueError(f"times are of the classes {sorted(before)} and {sorted(after)}; they must be the same")
    by_class = {kind: median(before[kind]) / median(after[kind]) for kind in before}
    gain = geometric_mean(by_class.values())
    if min(by_class.values()) < 1 / (1 + most_regression):
        return Decision("regression", gain, by_class)
    return Decision("gain" if gain >= least_gain else "too small", gain, by_class)


def ratios(before: ClassTimes, after: ClassTimes) -> list[float]:
    """Return the speed-up of every repeat, paired: the geometric mean over classes of what was timed in one turn."""
    rounds = zip(*(zip(before[kind], after[kind], strict=True) for kind in before), strict=True)
    return [geometric_mean(first / second for first, second in pairs) for pairs in rounds]


def median_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """Return an interval that holds the median with at least the probability ``level``, whatever the distribution.

    Its ends are the k-th smallest and largest value: ``1 - 2 sum_{i<k} C(n, i) / 2^n >= level``. Fewer than six values
    cannot give 95 %: the interval is unbounded.
    """
    ordered, count, outside, k = sorted(values), len(values), 0.0, 0
    while k < count // 2:
        outside += 2 * math.comb(count, k) / 2**count
        if 1 - outside < level:
            break
        k += 1
    return (ordered[k - 1], ordered[-k]) if k else (-math.inf, math.inf)
