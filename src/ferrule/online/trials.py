"""Measurements over seeds: intervals, and conditions that a claim must meet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from ferrule.core.paper import Claim, Verdict, verdict

__all__ = [
    "Condition", "at_least", "conclude", "describe", "judged", "over_seeds", "scale_of", "student_interval",
]  # fmt: skip

Size = TypeVar("Size")

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def student_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % Student interval of the mean over seeds: ``mean +- t sd / sqrt(n)``; needs at least 2 values.

    Paired comparisons pass one difference per seed.
    """
    if len(values) < 2:
        raise ValueError(f"an interval over seeds needs at least 2 values, not {len(values)}")
    freedom = len(values) - 1
    t = _T95[freedom - 1] if freedom <= len(_T95) else 1.96 + 2.4 / freedom
    half = t * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return mean - half, mean + half


@dataclass(frozen=True)
class Condition:
    """One measured requirement: the mean ``effect`` over seeds with its 95 % ``interval`` against a ``threshold``."""

    name: str
    values: tuple[float, ...]
    effect: float
    interval: tuple[float, float]
    threshold: float
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """Return the condition as plain JSON data."""
        return asdict(self)


def at_least(name: str, values: Sequence[float], threshold: float) -> Condition:
    """Judge whether the mean of ``values`` (one per seed) is at least ``threshold`` by its 95 % interval."""
    interval = student_interval(values)
    return Condition(
        name=name,
        values=tuple(float(v) for v in values),
        effect=float(np.mean(values)),
        interval=interval,
        threshold=threshold,
        verdict=verdict(interval, threshold),
    )


def conclude(conditions: Sequence[Condition]) -> Verdict:
    """Join verdicts: not held when any condition is not, held when all are, otherwise undecided."""
    verdicts = {condition.verdict for condition in conditions}
    if "not held" in verdicts:
        return "not held"
    return "held" if verdicts == {"held"} else "undecided"


def describe(condition: Condition) -> str:
    """One line: name, effect, interval, threshold and verdict."""
    low, high = condition.interval
    return (
        f"{condition.name}: {condition.effect:.3f} [{low:.3f}, {high:.3f}], "
        f"asked for at least {condition.threshold:.3f}: {condition.verdict}"
    )


def judged(
    conditions: Sequence[Condition],
    *,
    first: int = 0,
    beside: Sequence[Condition] = (),
    notes: Sequence[str] = (),
    setup: Mapping[str, Any] | None = None,
    **claim: Any,
) -> Claim:
    """Return the claim that conditions decide: all of them its verdict, the one numbered ``first`` its effect.

    Conditions ``beside`` are measured without deciding. All are told in the claim's notes, before ``notes``, and stand
    in its setup as data. ``claim`` holds what a ``Claim`` says besides.
    """
    main = conditions[first]
    told = [*map(describe, conditions), *(f"Beside the verdict: {describe(condition)}" for condition in beside)]
    return Claim(
        measured=main.name,
        effect=main.effect,
        interval=main.interval,
        threshold=main.threshold,
        verdict=conclude(conditions),
        notes=(*told, *notes),
        setup={**(setup or {}), "conditions": [condition.as_dict() for condition in (*conditions, *beside)]},
        **claim,
    )


def over_seeds(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, list[Any]]]:
    """Turn one row of measurements per seed, by arm, into lists over seeds by arm and quantity (a claim's ``arms``)."""
    return {arm: {name: [row[name] for row in rows] for name in rows[0]} for arm, rows in found.items()}


def scale_of(scales: Mapping[str, Size], scale: str) -> Size:
    """Return a claim's size by the name of its scale; an unknown name is refused with those that are known."""
    if scale not in scales:
        raise ValueError(f"scale is {scale!r}; known: {', '.join(sorted(scales))}")
    return scales[scale]
