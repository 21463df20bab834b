"""A setting of every arm at its best: tried at a part of the budget, on seeds that nothing is measured on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

__all__ = ["Tuned", "Tuning", "best", "changes_of"]


@dataclass(frozen=True)
class Tuning:
    """Which of its ``values`` a setting has in each arm: the one with the largest mean of ``quantity`` over ``seeds``.

    ``size`` are the settings of an arm that are smaller while it is tried (a quarter of the budget). A study tunes at
    every size that does not give the setting itself. Ties go to the value that is named first. Raises ``ValueError``
    for fewer than two values and for no seeds.
    """

    setting: str
    values: tuple[float, ...]
    size: Mapping[str, Any] = field(default_factory=dict, hash=False)
    seeds: tuple[int, ...] = (0,)
    quantity: str = "success"

    def __post_init__(self) -> None:
        """Refuse a choice among nothing."""
        if len(set(self.values)) < 2:
            raise ValueError(f"Tuning.values of {self.setting!r} are {self.values}; the least is two different ones")
        if not self.seeds:
            raise ValueError(f"Tuning.seeds is empty; {self.setting!r} would be chosen by nothing")


@dataclass(frozen=True)
class Tuned:
    """What was chosen for an arm, and the mean of the quantity for every value that was tried, in their order."""

    value: float
    means: tuple[float, ...]


def changes_of(tuning: Tuning, value: float) -> tuple[tuple[str, Any], ...]:
    """Return the settings of a trial that differ from those of its size."""
    return tuple({**tuning.size, tuning.setting: value}.items())


def best(tuning: Tuning, trials: Iterable[tuple[float, Mapping[str, Any]]]) -> Tuned:
    """Choose a value from trials: pairs of a value and the numbers that the arm returned with it.

    An arm that failed to return a finite number with a value does not get it, unless it fails with all of them.
    """
    numbers: dict[float, list[float]] = {value: [] for value in tuning.values}
    for value, row in trials:
        numbers[value].append(float(row[tuning.quantity]))
    means = tuple(fmean(numbers[value]) for value in tuning.values)
    return Tuned(tuning.values[_largest(means)], means)


def _largest(means: Sequence[float]) -> int:
    return max(range(len(means)), key=lambda i: means[i] if means[i] == means[i] else float("-inf"))
