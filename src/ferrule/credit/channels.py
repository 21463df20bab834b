"""Credit over named reward channels ``parts_CN``: sum then normalise, normalise then sum, or one loss per channel."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ferrule.core.arrays import FloatArray, IntArray, Signals, apply, by_name, nearest

__all__ = [
    "ChannelRule",
    "Rule",
    "effective_weights",
    "normalise_then_sum",
    "per_channel",
    "qualifying",
    "sum_then_normalise",
]

Rule: TypeAlias = Callable[..., FloatArray]
ChannelRule: TypeAlias = Callable[[Signals], FloatArray]


def _weights(signals: Signals, weights: Mapping[str, float] | None) -> FloatArray:
    """Weights in the order of the batch's channels; every channel must be weighed and every weight used."""
    if not signals.channels:
        raise ValueError("no reward channels in this batch: the reward gives no parts (see ferrule.rewards.combine)")
    if weights is None:
        return np.ones(len(signals.channels))
    for name in weights:
        if name not in signals.channels:
            raise ValueError(f"weight for reward channel {name!r}, which is absent; {nearest(name, signals.channels)}")
    for name in signals.channels:
        if name not in weights:
            raise ValueError(f"no weight for reward channel {name!r}; weights given: {', '.join(weights)}")
    return np.asarray([weights[name] for name in signals.channels], dtype=np.float64)


def _check(rule: Rule) -> None:
    if "turn_reward_NK" in inspect.signature(rule).parameters:
        raise ValueError("turn rewards belong to no channel: use a rule that does not name turn_reward_NK")


def sum_then_normalise(rule: Rule, *, weights: Mapping[str, float] | None = None) -> ChannelRule:
    """Return the rule ``A = rule(sum_c w_c parts_c)``: one comparison of the weighted sum.

    A channel with a small range disappears beside one with a large range. Sums of a group that only rounding tells
    apart are made equal. ``weights`` maps every channel to its weight (None: all 1).
    """

    def summed(signals: Signals) -> FloatArray:
        total_N = _weighted_sum(_weights(signals, weights), signals.parts_CN, signals.group_N)
        return apply(rule, replace(signals, reward_N=total_N))

    return summed


_ROUNDING = 1e-12


def _weighted_sum(weights_C: FloatArray, parts_CN: FloatArray, group_N: IntArray) -> FloatArray:
    """``w @ parts``, where sums within a group that agree to rounding error are one number."""
    total_N = np.asarray(weights_C @ parts_CN, dtype=np.float64)
    size_N = np.abs(weights_C) @ np.abs(parts_CN)
    for group in np.unique(group_N):
        members = group_N == group
        if np.ptp(total_N[members]) <= _ROUNDING * size_N[members].max():
            total_N[members] = total_N[members].min()
    return total_N


def _spread(values: FloatArray, ddof: int) -> float:
    """Standard deviation measured from the smallest value, so that equal ones have none."""
    if len(values) <= ddof or np.ptp(values) <= _ROUNDING * np.abs(values).max(initial=0.0):
        return 0.0
    return float((values - values.min()).std(ddof=ddof))


def per_channel(rule: Rule, *, weights: Mapping[str, float] | None = None) -> ChannelRule:
    """Return the rule ``A_c = w_c rule(parts_c)`` as ``adv_CNT``: one advantage, and so one loss, per channel.

    Channels stand in the order of ``Signals.channels``. ``weights`` maps every channel to its weight (None: all 1).
    Raises ``ValueError`` for a rule that reads turn rewards, which belong to no channel.
    """
    _check(rule)

    def mapped(signals: Signals) -> FloatArray:
        scale_C = _weights(signals, weights)
        rows = [
            w * apply(rule, replace(signals, reward_N=part_N))
            for w, part_N in zip(scale_C, signals.parts_CN, strict=True)
        ]
        return np.stack(rows)

    return mapped


def normalise_then_sum(rule: Rule, *, weights: Mapping[str, float] | None = None) -> ChannelRule:
    """Return the rule ``A = sum_c w_c rule(parts_c)``: each channel is compared on its own scale, then added.

    ``weights`` maps every channel to its weight (None: all 1).
    """
    mapped = per_channel(rule, weights=weights)

    def summed(signals: Signals) -> FloatArray:
        total: Any = mapped(signals).sum(axis=0)
        return np.asarray(total, dtype=np.float64)

    return summed


def qualifying(rule: Rule, when: Callable[..., Any]) -> ChannelRule:
    """Return ``rule`` among the rows that qualify: others get 0 and take no part in any comparison.

    ``when`` names signals and returns one boolean per row. A row that qualifies alone in its group has nothing to be
    compared with (what ``rule`` gives to a group of one).
    """

    def among(signals: Signals) -> FloatArray:
        picked_N = np.asarray(by_name(when, {**signals.named(), "signals": signals}), dtype=bool)
        apart = int(signals.group_N.max(initial=-1)) + 1 + np.arange(len(picked_N))
        adv_NT = apply(rule, replace(signals, group_N=np.where(picked_N, signals.group_N, apart)))
        return np.where(picked_N[:, None], adv_NT, 0.0)

    return among


def effective_weights(
    parts_CN: FloatArray, group_N: IntArray, *, weights_C: FloatArray | None = None, ddof: int = 0
) -> FloatArray:
    """What each channel really weighs when the sum is normalised: ``w_c std(parts_c) / std(sum_c w_c parts_c)``.

    Shape (G, C), one row per group in sorted order; a group whose sum is constant has zeros. With the same ``ddof``
    it holds exactly that ``A(sum) = sum_c effective_c A(parts_c)``. Source: "Rethinking Reinforcement Fine-Tuning in
    LVLM" (41).
    """
    weights_C = np.ones(len(parts_CN)) if weights_C is None else np.asarray(weights_C, dtype=np.float64)
    total_N = _weighted_sum(weights_C, parts_CN, group_N)
    rows = []
    for group in np.unique(group_N):
        members = group_N == group
        spread_C = np.asarray([_spread(part, ddof) for part in parts_CN[:, members]])
        total = _spread(total_N[members], ddof)
        rows.append(weights_C * spread_C / total if total > 0 else np.zeros(len(parts_CN)))
    return np.asarray(rows, dtype=np.float64).reshape(len(rows), len(parts_CN))
