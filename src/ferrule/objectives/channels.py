"""One loss per reward channel, and what has nothing to do with the reward once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ferrule.core.arrays import by_name

__all__ = ["over_channels"]


def over_channels(objective: Callable[..., Tensor], adv_CNT: Tensor, named: Mapping[str, Any]) -> Tensor:
    """Sum an objective over channels: ``sum_c f(A_c) - (C - 1) f(0)``, shape (N, T).

    The second term leaves a penalty inside ``f`` (divergence, entropy), which no advantage scales, counted once. One
    channel is ``f(A)``. ``named`` holds the other arrays that the objective may name.
    """
    losses = [by_name(objective, {**named, "adv_NT": adv_NT}) for adv_NT in adv_CNT]
    total: Tensor = torch.stack(losses).sum(0)
    if len(losses) > 1:
        total = total - (len(losses) - 1) * by_name(objective, {**named, "adv_NT": torch.zeros_like(adv_CNT[0])})
    return total
