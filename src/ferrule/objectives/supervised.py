"""Likelihood objectives and the critic's regression loss."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["nll", "nll_on_positives", "value_loss"]


def nll(logp_NT: Tensor, turn_NT: Tensor) -> Tensor:
    """Negative log-likelihood per model token, ``-logp``; with ``token_mean`` this is supervised fine-tuning."""
    return -torch.where(turn_NT >= 0, logp_NT, torch.zeros_like(logp_NT))


def nll_on_positives(logp_NT: Tensor, adv_NT: Tensor, turn_NT: Tensor) -> Tensor:
    """Negative log-likelihood of model tokens with a positive advantage, 0 elsewhere (imitate what went well)."""
    return -torch.where((turn_NT >= 0) & (adv_NT > 0), logp_NT, torch.zeros_like(logp_NT))


def value_loss(
    value_NT: Tensor,
    old_value_NT: Tensor,
    target_NT: Tensor,
    turn_NT: Tensor,
    *,
    clip: float | None = 0.2,
    half: bool = False,
) -> Tensor:
    """Squared error of the critic per model token: ``max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2)``.

    ``value_NT`` is the critic now, ``old_value_NT`` at sampling time, ``target_NT`` what it should say. ``clip=None``
    leaves the plain square; ``half`` multiplies by 1/2. Source: "A Technical Survey of Reinforcement Learning
    Techniques for Large Language Models" (52).
    """
    mine_NT = turn_NT >= 0
    zero = torch.zeros_like(value_NT)
    now_NT = torch.where(mine_NT, value_NT, zero)
    target_NT = torch.where(mine_NT, target_NT.detach().to(now_NT.dtype), zero)
    loss_NT = (now_NT - target_NT).square()
    if clip is not None:
        if clip <= 0:
            raise ValueError(f"clip is {clip}; it must be above 0 (or None for no clip)")
        old_NT = torch.where(mine_NT, old_value_NT.detach().to(now_NT.dtype), zero)
        near_NT = torch.clamp(now_NT, old_NT - clip, old_NT + clip)
        loss_NT = torch.maximum(loss_NT, (near_NT - target_NT).square())
    return loss_NT / 2 if half else loss_NT
