"""Conditions in their earlier form, until every paper is written as a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from ferrule.evaluate.metrics import student_interval
from ferrule.studies.paper import Claim, Verdict, verdict

__all__ = [
    "Condition", "at_least", "conclude", "describe", "judged", "over_seeds", "scale_of",
]  # fmt: skip

Size = TypeVar("Size")


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
    claim["size"] = claim.pop("scale", "small")
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
