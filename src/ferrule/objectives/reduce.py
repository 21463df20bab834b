"""From a loss per token to a scalar, with denominators of the whole batch.

Every reduction is additive: over any split into micro-batches, the parts add up to the value of the whole batch, so
that gradient accumulation and data parallelism equal one large batch. Only the model's own tokens count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ferrule.core.arrays import nearest

__all__ = ["Totals", "constant", "sequence_mean", "token_mean", "totals"]


@dataclass(frozen=True, slots=True)
class Totals:
    """What the whole batch holds: model tokens, and rows with at least one model token."""

    tokens: float
    rows: float

    def __add__(self, other: Totals) -> Totals:
        """Return the totals of two micro-batches together."""
        return Totals(self.tokens + other.tokens, self.rows + other.rows)


def totals(turn_NT: Any) -> Totals:
    """Count the model tokens of a batch and its rows that have any (numpy array or tensor)."""
    mine_NT = turn_NT >= 0
    return Totals(tokens=float(mine_NT.sum()), rows=float(mine_NT.any(1).sum()))


def _own(loss_NT: Tensor, turn_NT: Tensor) -> Tensor:
    """Zero everything off the model's tokens (a product would keep NaN)."""
    return torch.where(turn_NT >= 0, loss_NT, torch.zeros_like(loss_NT))


def token_mean(loss_NT: Tensor, turn_NT: Tensor, total: Totals) -> Tensor:
    """Mean over all model tokens of the batch: ``sum(loss) / total.tokens``. Long answers weigh more."""
    return _own(loss_NT, turn_NT).sum() / max(total.tokens, 1.0)


def sequence_mean(
    loss_NT: Tensor, turn_NT: Tensor, total: Totals, *, tokens: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """Mean over rows of each row's token mean or token sum: ``sum_n(mean_t or sum_t) / total.rows``.

    Rows without model tokens count as no rows. Raises ``ValueError`` on an unknown ``tokens``.
    """
    if tokens not in ("mean", "sum"):
        raise ValueError(f"tokens is {tokens!r}; {nearest(tokens, ('mean', 'sum'))}")
    row_N = _own(loss_NT, turn_NT).sum(1)
    if tokens == "mean":
        row_N = row_N / (turn_NT >= 0).sum(1).clamp(min=1)
    return row_N.sum() / max(total.rows, 1.0)


def constant(loss_NT: Tensor, turn_NT: Tensor, total: Totals, *, denominator: float = 1024.0) -> Tensor:
    """Token sums over a constant length: ``sum(loss) / (total.rows * denominator)``; no length enters the weight.

    ``denominator`` is usually the longest allowed answer in tokens. Raises ``ValueError`` unless it is positive.
    """
    if denominator <= 0:
        raise ValueError(f"denominator is {denominator}; it must be above 0")
    return _own(loss_NT, turn_NT).sum() / (max(total.rows, 1.0) * denominator)
