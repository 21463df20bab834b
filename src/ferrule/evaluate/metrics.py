"""Measures of evaluations with 95 % intervals; numpy only, seeded, the same numbers for the same data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

__all__ = [
    "Estimate",
    "bootstrap_interval",
    "bootstrap_mean",
    "efficiency",
    "necessity",
    "normalised",
    "paired_difference",
    "pass_at_k",
    "productivity",
    "ratio",
    "shown",
    "solve_rates",
    "student_interval",
    "task_mean",
    "wilson",
]

Z95 = 1.959963984540054
"""The 97.5 % point of the normal distribution: two-sided 95 %."""
DRAWS = 10_000
"""Resamples of a bootstrap."""


@dataclass(frozen=True)
class Estimate:
    """A measured value, its 95 % interval ``[low, high]``, and the number of independent units behind it."""

    value: float
    low: float
    high: float
    count: int

    @property
    def interval(self) -> tuple[float, float]:
        """The interval as a pair."""
        return self.low, self.high

    def as_dict(self, name: str = "value") -> dict[str, Any]:
        """Return ``{name: value, "interval": [low, high], "count": count}``; what is not known is None."""
        numbers = [None if math.isnan(x) else x for x in (self.value, self.low, self.high)]
        return {name: numbers[0], "interval": numbers[1:], "count": self.count}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def shown(data: Mapping[str, Any], name: str = "success") -> str:
    """Return what ``Estimate.as_dict`` holds as text, ``25.0% [10.1%, 49.8%]``, or say why a part is missing."""
    value, (low, high) = data[name], data["interval"]
    if value is None:
        return "no tasks"
    interval = f"(no interval from {data['count']} task)" if low is None else f"[{low:.1%}, {high:.1%}]"
    return f"{value:.1%} {interval}"


def wilson(successes: float, count: int) -> Estimate:
    r"""Return a proportion with Wilson's score interval.

    Solving :math:`|\hat p - p| = z \sqrt{p (1 - p) / n}` for p gives
    :math:`\frac{\hat p + z^2 / 2n \pm z \sqrt{\hat p (1 - \hat p) / n + z^2 / 4 n^2}}{1 + z^2 / n}`; it stays inside
    [0, 1] and has a width at 0 and n successes. ``count`` 0 gives nan in [0, 1]. Raises ``ValueError`` when there are
    more successes than ``count``, or less than none. Source: Wilson, "Probable inference, the law of succession, and
    statistical inference", 1927.
    """
    if not 0 <= successes <= count:
        raise ValueError(f"{successes} successes of {count}; a proportion lies between none and all")
    if count == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    p, z2 = successes / count, Z95**2
    centre = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 * math.sqrt(p * (1 - p) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return Estimate(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)), count)


def bootstrap_mean(values: Sequence[float], *, seed: int = 0, draws: int = DRAWS) -> Estimate:
    """Return a mean with the percentile bootstrap interval of ``draws`` resamples.

    No values give nan. A single one has no spread to resample: its interval is nan, not a point.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        return Estimate(float(data.mean()) if data.size else math.nan, math.nan, math.nan, int(data.size))
    low, high = np.quantile(_resampled(data[:, None], seed, draws)[:, 0], [0.025, 0.975])
    return Estimate(float(data.mean()), float(low), float(high), int(data.size))


def _resampled(data: np.ndarray[Any, np.dtype[np.float64]], seed: int, draws: int) -> Any:
    """Return the column means of ``draws`` resamples of the rows, shape (draws, columns)."""
    rng = np.random.default_rng(seed)
    size = len(data)
    step = max(1, 2_000_000 // size)
    parts = [
        data[rng.integers(0, size, (min(step, draws - start), size))].mean(axis=1) for start in range(0, draws, step)
    ]
    return np.concatenate(parts)


def _binary(values: Sequence[float]) -> bool:
    return all(value in (0.0, 1.0) for value in values)


def task_mean(scores: Sequence[Sequence[float]], *, seed: int = 0) -> Estimate:
    """Return the mean over tasks of the mean over a task's samples.

    Tasks are the independent units: further samples of a task do not make the interval narrower than ``count`` tasks
    allow. Scores of 0 and 1 get Wilson's interval (with more than one sample it is on the wide side), others
    the bootstrap over tasks. Tasks without scores are left out.
    """
    means = [float(np.mean(row)) for row in scores if len(row)]
    if all(_binary(row) for row in scores):
        return wilson(min(math.fsum(means), len(means)), len(means))
    return bootstrap_mean(means, seed=seed)


def paired_difference(before: Sequence[float], after: Sequence[float], *, seed: int = 0) -> Estimate:
    """Return the mean of ``after - before`` over the same tasks, in order, with its interval.

    Pairs of 0 and 1 get the interval of Agresti and Min ("Simple improved confidence intervals for comparing matched
    proportions", 2005): half a task is added to each of the four outcomes before Wald's formula, so ten equal pairs
    are not taken for certainty. Other values get the percentile bootstrap over pairs. Raises ``ValueError`` for
    sequences of different lengths.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} values before and {len(after)} after; pairs need equally many")
    differences = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    if not (_binary(before) and _binary(after)):
        return bootstrap_mean(differences.tolist(), seed=seed)
    if not len(differences):
        return Estimate(math.nan, -1.0, 1.0, 0)
    gained, lost = float((differences > 0).sum()) + 0.5, float((differences < 0).sum()) + 0.5
    size = len(differences) + 2
    centre = (gained - lost) / size
    half = Z95 * math.sqrt(gained + lost - (gained - lost) ** 2 / size) / size
    value = float(differences.mean())
    return Estimate(value, max(-1.0, min(value, centre - half)), min(1.0, max(value, centre + half)), len(differences))


def pass_at_k(count: int, right: int, k: int) -> float:
    r"""Return the unbiased chance that at least one of ``k`` samples is right.

    It is :math:`1 - \binom{n-c}{k} / \binom{n}{k}` for ``count`` n and ``right`` c.
    ``count`` samples were drawn, ``right`` of them are right. Raises ``ValueError`` unless ``1 <= k <= count``.
    Source: Chen et al., "Evaluating Large Language Models Trained on Code", arXiv 2107.03374.
    """
    if not 1 <= k <= count:
        raise ValueError(f"pass@{k} needs at least {max(k, 1)} samples and k of at least 1; there are {count} samples")
    if not 0 <= right <= count:
        raise ValueError(f"{right} right samples of {count}")
    return 1.0 - math.comb(count - right, k) / math.comb(count, k)


def ratio(top: float, bottom: float) -> float | None:
    """Return ``top / bottom``, None when there is nothing to divide by."""
    return top / bottom if bottom else None


def productivity(right: float, calls: float) -> float | None:
    """Return right answers per tool call over a whole evaluation, None when no tool was called.

    Source: "OTC: Optimal Tool Calls via Reinforcement Learning", paper 06.
    """
    return ratio(right, calls)


def solve_rates(solved: int, calls: int, golds: int) -> dict[str, float]:
    """Return precision ``solved / calls``, rate ``solved / golds``, and ``f1 = 2 solved / (calls + golds)``.

    ``solved`` of the ``golds`` reference answers came out of ``calls`` calls; a share of nothing is 0. Source:
    MatchTIR (23), evaluation on FTRL.
    """
    shares = {"precision": (solved, calls), "rate": (solved, golds), "f1": (2 * solved, calls + golds)}
    return {name: part / whole if whole else 0.0 for name, (part, whole) in shares.items()}


def efficiency(correct: Sequence[float], calls: Sequence[int], *, skip: bool = False) -> float:
    """Return the mean of ``correct / calls`` over samples; no call counts as one, or with ``skip`` is left out.

    The published figures skip on mathematics only. 0 without samples. Source: "Toward Effective
    Tool-Integrated Reasoning via Self-Evolved Preference Learning" (27).
    """
    pairs = [(right, count) for right, count in zip(correct, calls, strict=True) if count or not skip]
    return fmean(right / max(count, 1) for right, count in pairs) if pairs else 0.0


def necessity(outcomes: Sequence[Sequence[tuple[float, int]]], *, reference: bool = False) -> list[float]:
    """Return for every method how needed its calls were: the mean over samples of a count, 0 where it was wrong.

    ``outcomes`` holds a row per method with ``(correct, calls)`` per sample. Where a method is right, each other one
    with fewer calls counts 1 if it is wrong and -1 if it is right. ``reference`` leaves out the method whose place is
    that of the sample, as the released code does. Source: "Toward Effective Tool-Integrated Reasoning via Self-Evolved
    Preference Learning" (27).
    """
    raw = []
    for own, row in enumerate(outcomes):
        counts = []
        for place, (correct, calls) in enumerate(row):
            left_out = place if reference else own
            fewer = [
                others[place][0] for other, others in enumerate(outcomes)
                if other != left_out and others[place][1] < calls
            ]  # fmt: skip
            counts.append(sum(-1 if right else 1 for right in fewer) if correct else 0)
        raw.append(fmean(counts) if counts else 0.0)
    return raw


def normalised(values: Sequence[float]) -> list[float]:
    """Return values moved and scaled to 0 to 1; all 0.0001 where they are equal."""
    low, high = min(values), max(values)
    return [(value - low) / (high - low) for value in values] if high > low else [0.0001] * len(values)


def student_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % Student interval of the mean over seeds: ``mean +- t sd / sqrt(n)``; needs at least 2 values.

    Paired comparisons pass one difference per seed.
    """
    from scipy import stats

    if len(values) < 2:
        raise ValueError(f"an interval over seeds needs at least 2 values, not {len(values)}")
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * spread / math.sqrt(len(values))
    return mean - half, mean + half


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over seeds, bias-corrected and accelerated: for numbers that are skewed.

    Needs at least 2 values; resampling is seeded, so the same values give the same interval. Source: Efron, "Better
    bootstrap confidence intervals", 1987.
    """
    from scipy import stats

    if len(values) < 2:
        raise ValueError(f"an interval over seeds needs at least 2 values, not {len(values)}")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    result = stats.bootstrap((np.asarray(values),), np.mean, n_resamples=DRAWS, rng=np.random.default_rng(0))
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
