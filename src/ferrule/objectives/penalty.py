"""Terms added to an objective: KL to a reference, entropy, further losses.

Source: "A Technical Survey of Reinforcement Learning Techniques for Large Language Models" (52), KL estimators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ferrule.core.arrays import by_name
from ferrule.credit.wrap import naming
from ferrule.objectives.surrogate import LOG_RATIO_LIMIT

__all__ = ["Objective", "add", "kl_k1", "kl_k2", "kl_k3", "weighted", "with_entropy", "with_kl"]

Objective: TypeAlias = Callable[..., Tensor]


def kl_k1(logp_NT: Tensor, ref_NT: Tensor) -> Tensor:
    """KL estimate ``logp - ref`` per token: unbiased value, but a zero-mean gradient; not for use as a loss."""
    return logp_NT - ref_NT.detach()


def kl_k2(logp_NT: Tensor, ref_NT: Tensor) -> Tensor:
    """KL estimate ``(logp - ref)^2 / 2`` per token: biased value, right gradient on-policy."""
    return (logp_NT - ref_NT.detach()).square() / 2


def kl_k3(logp_NT: Tensor, ref_NT: Tensor, *, limit: float | None = 10.0) -> Tensor:
    """KL estimate ``exp(x) - x - 1`` with ``x = ref - logp`` per token: never negative, low variance.

    ``x`` is clamped to ``LOG_RATIO_LIMIT`` nats and the estimate to at most ``limit`` (None leaves it; a clamped
    token has no gradient), because it explodes where logp is far below the reference.
    """
    x_NT = (ref_NT.detach() - logp_NT).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    kl_NT = torch.exp(x_NT) - x_NT - 1
    return kl_NT if limit is None else kl_NT.clamp(max=limit)


def _own(values_NT: Tensor, turn_NT: Tensor) -> Tensor:
    return torch.where(turn_NT >= 0, values_NT, torch.zeros_like(values_NT))


def with_kl(objective: Objective, beta: float, *, estimator: Callable[[Tensor, Tensor], Tensor] = kl_k3) -> Objective:
    """Return ``objective + beta * estimator(logp, ref)`` on model tokens; the result reads ``ref_NT`` as well."""

    def penalised(**arrays: Any) -> Tensor:
        turn_NT = arrays["turn_NT"]
        kl_NT = estimator(_own(arrays["logp_NT"], turn_NT), _own(arrays["ref_NT"], turn_NT))
        total: Tensor = by_name(objective, arrays) + beta * _own(kl_NT, turn_NT)
        return total

    return naming(penalised, objective, adds=("logp_NT", "ref_NT", "turn_NT"))


def with_entropy(objective: Objective, coefficient: float) -> Objective:
    """Return ``objective - coefficient * entropy`` on model tokens; the result reads ``entropy_NT`` (nats) as well."""

    def encouraged(**arrays: Any) -> Tensor:
        total: Tensor = by_name(objective, arrays) - coefficient * _own(arrays["entropy_NT"], arrays["turn_NT"])
        return total

    return naming(encouraged, objective, adds=("entropy_NT", "turn_NT"))


def add(objective: Objective, penalty: Objective, weight: float) -> Objective:
    """Return ``objective + weight * penalty``; the result reads what both read.

    For example ``add(surrogate, nll_on_positives, 0.1)``.
    """

    def both(**arrays: Any) -> Tensor:
        total: Tensor = by_name(objective, arrays) + weight * by_name(penalty, arrays)
        return total

    return naming(both, objective, penalty)


def weighted(objective: Objective, by: str) -> Objective:
    """Return ``w * objective`` per token, where ``w`` is the array named ``by`` (see ``Recipe.beside``).

    Where ``w`` is 0 the loss is 0 whatever the objective gives. ``add(surrogate, weighted(kl_k3, "unaided_NT"), 0.1)``
    keeps only the rows near the reference that the array picks.
    """

    def scaled(**arrays: Any) -> Tensor:
        loss_NT, weight_NT = by_name(objective, arrays), arrays[by]
        weight_NT = weight_NT.to(loss_NT.dtype)
        return torch.where(weight_NT == 0, torch.zeros_like(loss_NT), weight_NT * loss_NT)

    return naming(scaled, objective, adds=(by,))
