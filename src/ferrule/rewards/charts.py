"""How good a chart is: a learned ranking, rules, a user's choices so far, and a weighted sum of these.

Source: "HAIChart: Human and AI Paired Visualization System" (paper 57).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ferrule.rewards.choices import ChoiceModel
from ferrule.worlds.charts.choosing import Rates
from ferrule.worlds.charts.columns import Plotted
from ferrule.worlds.charts.drawing import CHART_FEATURES, Marks, chart_features
from ferrule.worlds.charts.grammar import Chart, SlotChoice, choices_of
from ferrule.worlds.charts.making import all_charts, draw_table, grade

__all__ = ["Ranker", "by_choices", "choice_features", "default_ranker", "train_ranker", "weighted_rates"]


@dataclass(frozen=True)
class Ranker:
    """A LambdaMART model over the 14 features of a chart; a score is its margin as a probability, 0 to 1."""

    model: Any

    def margins(self, rows: Sequence[Sequence[float]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the raw scores of rows of ``CHART_FEATURES``."""
        return np.asarray(self.model.predict(np.asarray(rows, dtype=np.float64), num_threads=1), dtype=np.float64)

    def __call__(self, table: Plotted, chart: Chart, marks: Marks) -> float:
        """Rate one chart."""
        (margin,) = self.margins([chart_features(table, chart, marks)])
        return float(1 / (1 + np.exp(-margin)))


def train_ranker(
    groups: Sequence[Sequence[tuple[Sequence[float], int]]],
    *,
    trees: int = 60,
    learning_rate: float = 0.1,
    leaves: int = 15,
) -> Ranker:
    """Fit LambdaMART to graded charts: a group per table, in it the features of each chart and its grade (0 to 3).

    Needs lightgbm (``ImportError`` naming the extra). The same groups give the same model.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise ImportError('ranking charts needs lightgbm: pip install "ferrule[charts]"') from error
    rows = np.asarray([row for group in groups for row, _ in group], dtype=np.float64)
    grades = [grade for group in groups for _, grade in group]
    if rows.ndim != 2 or rows.shape[1] != len(CHART_FEATURES):
        raise ValueError(
            f"charts have the {len(CHART_FEATURES)} numbers of CHART_FEATURES; the rows have the shape {rows.shape}"
        )
    data = lightgbm.Dataset(rows, grades, group=[len(group) for group in groups], feature_name=_plain(CHART_FEATURES))
    settings = {
        "objective": "lambdarank", "num_leaves": leaves, "learning_rate": learning_rate, "min_data_in_leaf": 5,
        "verbosity": -1, "num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": 15,
    }  # fmt: skip
    return Ranker(lightgbm.train(settings, data, num_boost_round=trees))


def _plain(names: Sequence[str]) -> list[str]:
    return [name.replace(" ", "_") for name in names]


@cache
def default_ranker(tables: int = 40, charts: int = 60, seed: int = 57) -> Ranker:
    """Return the ranker of drawn tables whose planted relations say which charts are good; fitted once per process."""
    rng, groups = random.Random(f"ranker/{seed}"), []
    for number in range(tables):
        planted = draw_table(rng, 1 + number % 5)
        every = sorted(all_charts(planted.table), key=lambda chart: (-grade(planted, chart), rng.random()))
        groups.append([(chart_features(planted.table, chart), grade(planted, chart)) for chart in every[:charts]])
    return train_ranker(groups)


def weighted_rates(*parts: tuple[float, Rates], scale: float = 3.0) -> Rates:
    """Return the weighted mean of ratings in 0 to 1, times ``scale`` (``ValueError`` for weights without a sum)."""
    total = sum(weight for weight, _ in parts)
    if total <= 0 or any(weight < 0 for weight, _ in parts):
        raise ValueError(f"weights are {[weight for weight, _ in parts]}; none may be below 0, and one must be above")

    def rate(table: Plotted, chart: Chart, marks: Marks) -> float:
        given = sum(weight * each(table, chart, marks) for weight, each in parts if weight)
        return scale * given / total

    return rate


def choice_features(table: Plotted, choice: SlotChoice) -> tuple[str, ...]:
    """Return what a choice is known by across tables: its slot with the value, or with the kind of its column."""
    slot, value = choice
    kind = table.by_name[value].kind if slot in ("x", "y", "group") and value in table.by_name else str(value)
    return (f"{slot} {kind}",)


def by_choices(model: ChoiceModel, memory: Sequence[Sequence[str]] = ()) -> Rates:
    """Return how likely a user is to choose what a chart is made of, after the features of earlier choices, 0 to 1."""
    kept = model.remembered(memory)

    def rate(table: Plotted, chart: Chart, marks: Marks) -> float:
        worth = [model.utility(choice_features(table, choice), kept) for choice in choices_of(chart)]
        return float(1 / (1 + np.exp(-np.mean(worth))))

    return rate
