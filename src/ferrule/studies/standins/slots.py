"""Choices in slots whose worth is known: every end has a score, and some pairs of neighbouring choices are invalid."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np

from ferrule.core.arrays import FloatArray

__all__ = ["Slots", "draw_slots"]

Filled: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Slots:
    """``slots`` choices among ``values`` each; ends are worth ``scores`` (0 to 3), nan where they are invalid.

    ``scores`` has one axis per slot.
    """

    slots: int
    values: int
    scores: FloatArray = field(repr=False)
    first: Filled = ()

    def legal(self, state: Filled) -> Sequence[tuple[int, int]]:
        """Return the values of the next slot, each with the number of the slot."""
        place = len(state)
        return [(place, value) for value in range(self.values)] if place < self.slots else ()

    def step(self, state: Filled, action: tuple[int, int]) -> Filled:
        """Return the choices with one more."""
        return (*state, action[1])

    def left(self, state: Filled) -> int:
        """Return the number of open slots."""
        return self.slots - len(state)

    def score(self, state: Filled) -> float | None:
        """Return what an end is worth."""
        score = float(self.scores[state])
        return None if np.isnan(score) else score

    @cached_property
    def best(self) -> frozenset[Filled]:
        """The ten valid ends that are worth most."""
        ends = itertools.product(range(self.values), repeat=self.slots)
        valid = [end for end in ends if not np.isnan(self.scores[end])]
        return frozenset(sorted(valid, key=lambda end: -float(self.scores[end]))[:10])


def draw_slots(seed: int, *, slots: int = 5, values: int = 6, interaction: float = 0.2, invalid: float = 0.15) -> Slots:
    """Draw a problem: a normal worth per choice, and ``interaction`` times one per pair of choices of all slots.

    Sums are rescaled to 0 to 3 over all ends. A pair of choices of neighbouring slots is invalid with the probability
    ``invalid``.
    """
    rng = np.random.default_rng(seed)
    total, wrong = np.zeros((values,) * slots), np.zeros((values,) * slots, dtype=bool)
    for place in range(slots):
        total += _on(rng.normal(size=values), (place,), slots)
    for one, other in itertools.combinations(range(slots), 2):
        total += interaction * _on(rng.normal(size=(values, values)), (one, other), slots)
    for place in range(slots - 1):
        wrong |= _on(rng.random((values, values)), (place, place + 1), slots) < invalid
    scores = 3 * (total - total.min()) / (total.max() - total.min())
    return Slots(slots, values, np.where(wrong, np.nan, scores))


def _on(numbers: FloatArray, axes: tuple[int, ...], slots: int) -> FloatArray:
    """Return numbers on some axes of an array with an axis per slot."""
    return np.expand_dims(numbers, tuple(axis for axis in range(slots) if axis not in axes))
