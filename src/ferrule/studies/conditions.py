"""Conditions that a claim must meet: one number per seed, its interval, and the threshold it is judged by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ferrule.evaluate.metrics import bootstrap_interval, student_interval
from ferrule.studies.paper import Verdict, verdict

__all__ = [
    "Condition",
    "Interval",
    "Measured",
    "Rows",
    "at_least",
    "bootstrap_interval",
    "conclude",
    "describe",
    "less",
    "minus",
    "of",
    "over",
    "student_interval",
    "within",
]

Rows: TypeAlias = Mapping[str, Mapping[str, Any]]
"""What one seed gave: numbers by arm and quantity."""
Value: TypeAlias = Callable[[Rows], float]
Pooled: TypeAlias = Callable[[Sequence[Rows]], Rows]
Interval: TypeAlias = Callable[[Sequence[float]], tuple[float, float]]
Judge: TypeAlias = Callable[[tuple[float, float], float], Verdict]


@dataclass(frozen=True)
class Measured:
    """The result of one condition: the mean ``effect`` over seeds with its 95 % ``interval`` against a ``threshold``.

    ``decides`` is False for what is reported beside the verdict.
    """

    name: str
    values: tuple[float, ...]
    effect: float
    interval: tuple[float, float]
    threshold: float
    verdict: Verdict
    decides: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class Condition:
    """One thing asked of a study: ``value`` reads a number from the rows of one seed, ``judge`` decides.

    ``pooled`` makes further rows from those of all seeds (a median, for example), which ``value`` reads beside the rows
    of its seed. ``interval`` is a rule for the 95 % interval of the mean over seeds: ``student_interval``, or
    ``bootstrap_interval`` where the numbers are skewed. A condition that does not decide (``decides=False``) is
    reported beside the verdict.
    """

    name: str
    value: Value
    threshold: float
    interval: Interval = student_interval
    judge: Judge = verdict
    decides: bool = True
    pooled: Pooled | None = None

    def values(self, seeds: Sequence[Rows]) -> tuple[float, ...]:
        """Return the number of every seed."""
        shared = {} if self.pooled is None else self.pooled(seeds)
        return tuple(float(self.value({**rows, **shared})) for rows in seeds)

    def measure(self, seeds: Sequence[Rows]) -> Measured:
        """Judge the condition on the rows of every seed."""
        values = self.values(seeds)
        interval = self.interval(values)
        decision = self.judge(interval, self.threshold)
        return Measured(self.name, values, float(np.mean(values)), interval, self.threshold, decision, self.decides)


def at_least(
    name: str,
    value: Value,
    threshold: float,
    *,
    interval: Interval = student_interval,
    decides: bool = True,
    pooled: Pooled | None = None,
) -> Condition:
    """Ask that the mean of ``value`` over seeds is at least ``threshold`` by its 95 % interval."""
    return Condition(name, value, threshold, interval, decides=decides, pooled=pooled)


def within(
    name: str, value: Value, margin: float, *, interval: Interval = student_interval, decides: bool = True
) -> Condition:
    """Ask that the mean of ``value`` is equivalent to 0: its whole 95 % interval lies in ``[-margin, margin]``."""
    return Condition(name, value, margin, interval, _equivalent, decides)


def _equivalent(interval: tuple[float, float], margin: float) -> Verdict:
    low, high = interval
    if -margin <= low and high <= margin:
        return "held"
    return "not held" if low > margin or high < -margin else "undecided"


def of(arm: str, quantity: str, *, factor: float = 1.0, plus: float = 0.0) -> Value:
    """Return the value ``factor * rows[arm][quantity] + plus``."""
    return partial(_linear, arm=arm, quantity=quantity, factor=factor, plus=plus)


def _linear(rows: Rows, *, arm: str, quantity: str, factor: float, plus: float) -> float:
    return factor * float(rows[arm][quantity]) + plus


def less(quantity: str, arm: str, against: str) -> Value:
    """Return the value ``rows[arm][quantity] - rows[against][quantity]``: paired within a seed."""
    return partial(_difference, quantity=quantity, arm=arm, against=against)


def _difference(rows: Rows, *, quantity: str, arm: str, against: str) -> float:
    return float(rows[arm][quantity]) - float(rows[against][quantity])


def over(quantity: str, arm: str, against: str, *, factor: float = 1.0, plus: float = 0.0) -> Value:
    """Return the value ``factor * rows[arm][quantity] / rows[against][quantity] + plus``: paired within a seed.

    The relative fall from ``against`` to ``arm`` has ``factor=-1, plus=1``.
    """
    return partial(_quotient, quantity=quantity, arm=arm, against=against, factor=factor, plus=plus)


def _quotient(rows: Rows, *, quantity: str, arm: str, against: str, factor: float, plus: float) -> float:
    return factor * (float(rows[arm][quantity]) / float(rows[against][quantity])) + plus


def minus(value: Value, subtracted: Value) -> Value:
    """Return the value ``value - subtracted``: paired within a seed."""
    return partial(_minus, value=value, subtracted=subtracted)


def _minus(rows: Rows, *, value: Value, subtracted: Value) -> float:
    return float(value(rows)) - float(subtracted(rows))


def conclude(measured: Sequence[Measured]) -> Verdict:
    """Join verdicts of what decides: not held when any condition is not, held when all are, otherwise undecided."""
    verdicts = {condition.verdict for condition in measured if condition.decides}
    if "not held" in verdicts:
        return "not held"
    return "held" if verdicts == {"held"} else "undecided"


def describe(measured: Measured) -> str:
    """One line: name, effect, interval, threshold and verdict."""
    low, high = (f"{end:.3f}" if math.isfinite(end) else str(end) for end in measured.interval)
    effect = f"{measured.effect:.3f} [{low}, {high}], threshold {measured.threshold:.3f}"
    line = f"{measured.name}: {effect}: {measured.verdict}"
    return line if measured.decides else f"Beside the verdict: {line}"
