"""Deliberately wrong pieces, one per promise; the suite must catch every one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ferrule.core.arrays import FloatArray, IntArray
from ferrule.core.records import Score, Task, Trajectory
from ferrule.objectives.reduce import Totals


def _spread(adv_N: FloatArray, turn_NT: IntArray) -> FloatArray:
    return np.where(turn_NT >= 0, adv_N[:, None], 0.0)


def _centred(reward_N: FloatArray, group_N: IntArray) -> FloatArray:
    out = np.zeros_like(reward_N)
    for group in np.unique(group_N):
        rows = group_N == group
        if reward_N[rows].max() > reward_N[rows].min():
            out[rows] = reward_N[rows] - reward_N[rows].mean()
    return out


def right(reward_N: FloatArray, group_N: IntArray, turn_NT: IntArray) -> FloatArray:
    """The sound rule that the wrong ones depart from: it must pass."""
    return _spread(_centred(reward_N, group_N), turn_NT)


def global_mean(reward_N: FloatArray, turn_NT: IntArray) -> FloatArray:
    adv_N = reward_N - reward_N.mean() if np.ptp(reward_N) else np.zeros_like(reward_N)
    return _spread(adv_N, turn_NT)


def leak_onto_tool_tokens(reward_N: FloatArray, group_N: IntArray, turn_NT: IntArray) -> FloatArray:
    return np.broadcast_to(_centred(reward_N, group_N)[:, None], turn_NT.shape).copy()


def changes_its_input(reward_N: FloatArray, group_N: IntArray, turn_NT: IntArray) -> FloatArray:
    reward_N -= reward_N.mean()
    return _spread(_centred(reward_N, group_N), turn_NT)


def depends_on_order(reward_N: FloatArray, group_N: IntArray, turn_NT: IntArray) -> FloatArray:
    adv_N = _centred(reward_N, group_N)
    for group in np.unique(group_N):
        adv_N[np.flatnonzero(group_N == group)[0]] *= 2.0
    return _spread(adv_N, turn_NT)


def no_baseline(reward_N: FloatArray, turn_NT: IntArray) -> FloatArray:
    return _spread(reward_N, turn_NT)


def divides_by_zero_spread(reward_N: FloatArray, group_N: IntArray, turn_NT: IntArray) -> FloatArray:
    out = np.zeros_like(reward_N)
    for group in np.unique(group_N):
        rows = group_N == group
        out[rows] = (reward_N[rows] - reward_N[rows].mean()) / reward_N[rows].std()
    return _spread(out, turn_NT)


def one_value_per_row(reward_N: FloatArray, group_N: IntArray, turn_NT: IntArray) -> FloatArray:
    return _centred(reward_N, group_N)


CREDIT = {
    "independent across groups": global_mean,
    "zero off the model's tokens": leak_onto_tool_tokens,
    "inputs untouched": changes_its_input,
    "permutation-equivariant": depends_on_order,
    "equal rewards give zero": no_baseline,
    "finite": divides_by_zero_spread,
    "token-shaped": one_value_per_row,
}


def reads_observation_text(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    return [Score(float(any("4" in o.text for _, o in t.calls))) for t in trajectories]


def reads_prompt(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    return [Score(float(len(task.prompt))) for _ in trajectories]


def drops_failures(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    return [Score(1.0) for t in trajectories if t.answer is not None]


def first_is_best(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    return [Score(float(i == 0)) for i, _ in enumerate(trajectories)]


def share_of_nothing(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    return [Score(float(np.float64(1.0) / max(len(t.calls), 0)) if t.calls else float("nan")) for t in trajectories]


def needs_somebody(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    longest = max(len(t.turns) for t in trajectories)
    return [Score(len(t.turns) / max(longest, 1)) for t in trajectories]


REWARDS = {
    "reads neither prompt nor observation text": reads_observation_text,
    "reads neither prompt nor observation": reads_prompt,
    "one score per trajectory": drops_failures,
    "order-equivariant": first_is_best,
    "finite": share_of_nothing,
}


def trains_tool_tokens(logp_NT: Tensor, adv_NT: Tensor, turn_NT: Tensor) -> Tensor:
    return -torch.nan_to_num(adv_NT, posinf=1.0, nan=1.0) * torch.nan_to_num(logp_NT, posinf=1.0)


def masks_by_product(logp_NT: Tensor, adv_NT: Tensor, turn_NT: Tensor) -> Tensor:
    return -adv_NT * logp_NT * (turn_NT >= 0)


def _clean(values_NT: Tensor, turn_NT: Tensor) -> Tensor:
    return torch.where(turn_NT >= 0, values_NT, torch.zeros_like(values_NT))


def bare_ratio(logp_NT: Tensor, old_NT: Tensor, adv_NT: Tensor, turn_NT: Tensor) -> Tensor:
    ratio = torch.exp(_clean(logp_NT, turn_NT) - _clean(old_NT, turn_NT))
    return -_clean(adv_NT, turn_NT) * ratio


def trains_on_everything(logp_NT: Tensor, adv_NT: Tensor, turn_NT: Tensor) -> Tensor:
    return -_clean(adv_NT + 1.0, turn_NT) * _clean(logp_NT, turn_NT)


def mean_over_padding(logp_NT: Tensor, turn_NT: Tensor) -> Tensor:
    return -_clean(logp_NT, turn_NT) / turn_NT.shape[1]


OBJECTIVES = {
    "no loss off the model's tokens": trains_tool_tokens,
    "finite with garbage off the model's tokens": masks_by_product,
    "finite at extreme ratios": bare_ratio,
    "zero gradient for zero advantage": trains_on_everything,
    "independent of padding": mean_over_padding,
}


def mean_of_micro_batch(loss_NT: Tensor, turn_NT: Tensor, total: Totals) -> Tensor:
    return _clean(loss_NT, turn_NT).sum() / (turn_NT >= 0).sum().clamp(min=1)


def mean_of_rows_and_padding(loss_NT: Tensor, turn_NT: Tensor, total: Totals) -> Tensor:
    return _clean(loss_NT, turn_NT).sum() / (max(total.rows, 1) * loss_NT.shape[1])


def product_with_mask(loss_NT: Tensor, turn_NT: Tensor, total: Totals) -> Tensor:
    return (loss_NT * (turn_NT >= 0)).sum() / max(total.tokens, 1)


REDUCTIONS = {
    "additive over micro-batches": mean_of_micro_batch,
    "independent of padding": mean_of_rows_and_padding,
    "a finite scalar": product_with_mask,
}


def tokenised_again(trajectory: Trajectory) -> Trajectory:
    """Replace the ids of the last turn by others that could decode to the same text (two ids for one)."""
    last = trajectory.turns[-1]
    sampled = (*last.sampled[:-1], 90, 91)
    changed = replace(last, sampled=sampled, logps=(-0.5,) * len(sampled))
    return replace(trajectory, turns=(*trajectory.turns[:-1], changed))
