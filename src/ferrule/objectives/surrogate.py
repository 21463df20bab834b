"""Policy-gradient objectives: the clipped surrogate with its variants, and plain REINFORCE.

Source: "A Technical Survey of Reinforcement Learning Techniques for Large Language Models" (52), PPO, GRPO, DAPO.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ferrule.core.arrays import nearest
from ferrule.core.marks import exempt

__all__ = ["LOG_RATIO_LIMIT", "Ratio", "diagnostics", "importance", "reinforce", "surrogate"]

Ratio: TypeAlias = Literal["token", "sequence", "product"]

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are clamped to plus or minus this many nats before the exponential; past it a token has no gradient."""


def _gap(logp_NT: Tensor, old_NT: Tensor, turn_NT: Tensor) -> Tensor:
    """Log-ratio on model tokens; 0 elsewhere, chosen before any arithmetic so that no NaN can reach a gradient."""
    mine_NT = turn_NT >= 0
    zero = torch.zeros_like(logp_NT)
    return torch.where(mine_NT, logp_NT, zero) - torch.where(mine_NT, old_NT.detach().to(logp_NT.dtype), zero)


@exempt("loss")
def importance(logp_NT: Tensor, old_NT: Tensor, turn_NT: Tensor, *, ratio: Ratio = "token") -> Tensor:
    """Importance ratio per token: ``exp(logp - old)``, for ``"sequence"`` the row's geometric mean of it.

    ``"product"`` is the ratio of whole rows, the product over their tokens. The log-ratio is clamped to
    ``LOG_RATIO_LIMIT`` nats. Raises ``ValueError`` on an unknown ``ratio``.
    """
    if ratio not in get_args(Ratio):
        raise ValueError(f"ratio is {ratio!r}; {nearest(ratio, get_args(Ratio))}")
    gap_NT = _gap(logp_NT, old_NT, turn_NT)
    if ratio != "token":
        count_N = (turn_NT >= 0).sum(1, keepdim=True).clamp(min=1) if ratio == "sequence" else 1
        gap_NT = (gap_NT.sum(1, keepdim=True) / count_N).expand_as(gap_NT)
    return torch.exp(gap_NT.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))


def _bounds(lo: float, hi: float, reciprocal: bool) -> tuple[float, float]:
    if not (lo >= 0 and hi >= 0) or (lo >= 1 and not reciprocal):
        raise ValueError(f"clip range lo={lo}, hi={hi}: both must be at least 0, and lo below 1 unless reciprocal")
    return (1 / (1 + lo) if reciprocal else 1 - lo), 1 + hi


def surrogate(
    logp_NT: Tensor,
    old_NT: Tensor,
    adv_NT: Tensor,
    turn_NT: Tensor,
    *,
    lo: float = 0.2,
    hi: float = 0.2,
    reciprocal: bool = False,
    dual: float | None = None,
    ratio: Ratio = "token",
) -> Tensor:
    """Clipped surrogate: ``max(-A r, -A clip(r, 1 - lo, 1 + hi))`` per model token, 0 elsewhere.

    ``r = exp(logp - old)``; ``reciprocal`` takes ``1 / (1 + lo)`` for the lower bound; ``dual`` (above 1, usually 3)
    caps the loss of negative advantages at ``-A dual``; ``ratio`` is that of ``importance`` (``"sequence"``: one
    length-normalised ratio per row, as in GSPO). ``old_NT`` and ``adv_NT`` get no gradient. Source: survey 52 (PPO;
    DAPO is lo 0.2, hi 0.28).
    """
    if dual is not None and not dual > 1:
        raise ValueError(f"dual is {dual}; it must be above 1 (or None for no dual clip)")
    low, high = _bounds(lo, hi, reciprocal)
    ratio_NT = importance(logp_NT, old_NT, turn_NT, ratio=ratio)
    mine_NT = turn_NT >= 0
    adv_NT = torch.where(mine_NT, adv_NT.detach().to(logp_NT.dtype), torch.zeros_like(logp_NT))
    loss_NT = torch.maximum(-adv_NT * ratio_NT, -adv_NT * ratio_NT.clamp(low, high))
    if dual is not None:
        loss_NT = torch.where(adv_NT < 0, torch.minimum(loss_NT, -adv_NT * dual), loss_NT)
    return torch.where(mine_NT, loss_NT, torch.zeros_like(loss_NT))


def reinforce(logp_NT: Tensor, adv_NT: Tensor, turn_NT: Tensor) -> Tensor:
    """Plain policy gradient: ``-A logp`` per model token, 0 elsewhere (on-policy samples only)."""
    mine_NT = turn_NT >= 0
    zero = torch.zeros_like(logp_NT)
    return -torch.where(mine_NT, adv_NT.detach().to(logp_NT.dtype), zero) * torch.where(mine_NT, logp_NT, zero)


@exempt("loss")
@torch.no_grad()
def diagnostics(
    logp_NT: Tensor,
    old_NT: Tensor,
    adv_NT: Tensor,
    turn_NT: Tensor,
    *,
    lo: float = 0.2,
    hi: float = 0.2,
    reciprocal: bool = False,
) -> dict[str, float]:
    """Measure an update over model tokens.

    ``clip_fraction`` is the share of tokens where the clip binds (ratio above ``1 + hi`` with positive advantage, or
    below the lower bound with negative), ``approx_kl = mean(old - logp)`` in nats, ``ratio_max`` the largest ratio
    and ``tokens`` the number of model tokens, for pooling. All are 0 when there are none.
    """
    low, high = _bounds(lo, hi, reciprocal)
    mine_NT = turn_NT >= 0
    count = int(mine_NT.sum())
    if count == 0:
        return {"clip_fraction": 0.0, "approx_kl": 0.0, "ratio_max": 0.0, "tokens": 0.0}
    ratio = importance(logp_NT, old_NT, turn_NT)[mine_NT]
    adv = adv_NT.to(logp_NT.dtype)[mine_NT]
    clipped = ((adv > 0) & (ratio > high)) | ((adv < 0) & (ratio < low))
    return {
        "clip_fraction": float(clipped.double().mean()),
        "approx_kl": float(-_gap(logp_NT, old_NT, turn_NT)[mine_NT].double().mean()),
        "ratio_max": float(ratio.max()),
        "tokens": float(count),
    }
