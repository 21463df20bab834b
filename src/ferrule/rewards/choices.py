"""What a person prefers, learned from what they chose among what was offered.

Source: "HAIChart: Human and AI Paired Visualization System" (paper 57), whose model of a user is a recurrent network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

__all__ = ["ChoiceModel", "Offered", "fit_choices"]

Offered: TypeAlias = "tuple[Sequence[Sequence[str]], int]"
"""The features of everything that was offered, and the place of what was chosen."""


@dataclass(frozen=True)
class ChoiceModel:
    r"""A multinomial logit with a memory: :math:`u = \sum_f (w_f + r\, m_f)` over the features of what is offered.

    :math:`m_f` decays by ``keeps`` with every choice and grows by 1 with each that had the feature, so that ``repeat``
    (r) says how much a person stays with what they chose before.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    repeat: float = 0.0
    keeps: float = 0.5

    def remembered(self, chosen: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return the memory after the features of earlier choices, in order."""
        memory: dict[str, float] = {}
        for features in chosen:
            memory = {name: self.keeps * value for name, value in memory.items()}
            for name in features:
                memory[name] = memory.get(name, 0.0) + 1.0
        return memory

    def utility(self, features: Sequence[str], memory: Mapping[str, float]) -> float:
        """Return what something offered is worth; features that were never offered count 0."""
        return sum(self.weights.get(name, 0.0) + self.repeat * memory.get(name, 0.0) for name in features)

    def chances(self, offered: Sequence[Sequence[str]], chosen: Sequence[Sequence[str]] = ()) -> list[float]:
        """Return the probability of each thing on offer, after earlier choices."""
        memory = self.remembered(chosen)
        worth = [self.utility(features, memory) for features in offered]
        shares = [math.exp(each - max(worth)) for each in worth]
        return [share / sum(shares) for share in shares]


def fit_choices(
    sequences: Sequence[Sequence[Offered]],
    *,
    keeps: float = 0.5,
    penalty: float = 0.1,
    steps: int = 300,
    rate: float = 0.5,
) -> ChoiceModel:
    """Fit a model to sequences of choices, each of one person, by ascent on the penalised log-likelihood.

    It is concave, so that the start does not matter. ``penalty`` times half the sum of squares is taken off per
    sequence of choices as a whole.
    """
    names = sorted({name for sequence in sequences for offered, _ in sequence for each in offered for name in each})
    place, blank = {name: number for number, name in enumerate(names)}, ChoiceModel(keeps=keeps)
    tables: list[tuple[np.ndarray[Any, Any], int]] = []
    for sequence in sequences:
        chosen: list[Sequence[str]] = []
        for offered, picked in sequence:
            memory, rows = blank.remembered(chosen), np.zeros((len(offered), len(names) + 1))
            for row, features in zip(rows, offered, strict=True):
                for name in features:
                    row[place[name]] += 1
                    row[-1] += memory.get(name, 0.0)
            tables.append((rows, picked))
            chosen.append(offered[picked])
    theta = np.zeros(len(names) + 1)
    for _ in range(steps if tables else 0):
        slope = -penalty * theta
        for rows, picked in tables:
            worth = rows @ theta
            shares = np.exp(worth - worth.max())
            slope += rows[picked] - shares @ rows / shares.sum()
        theta += rate * slope / len(tables)
    return ChoiceModel(dict(zip(names, map(float, theta[:-1]), strict=True)), float(theta[-1]), keeps)
