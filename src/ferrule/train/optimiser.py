"""The optimiser of a run, made from its settings; parameters in half precision have fp32 copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from ferrule.train.policy import Trains
from ferrule.train.settings import Settings
from ferrule.train.suited import learning_rate_for

__all__ = ["MasterAdamW", "optimiser_of"]

_HALF = (torch.bfloat16, torch.float16)


class MasterAdamW(torch.optim.AdamW):
    """AdamW over fp32 copies of parameters that are held in half precision; the others are as in AdamW.

    ``masters`` maps such a parameter to its copy, which learns, with fp32 moments and a gradient that is added up in
    fp32; after every step the parameter is the copy, rounded. In half precision alone, steps smaller than 1/256 of a
    weight would be lost. Source: "Mixed Precision Training", arXiv 1710.03740, section 3.1.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], **options: Any) -> None:
        parameters = list(parameters)
        half = [p for p in parameters if p.dtype in _HALF]
        self.masters = {p: torch.nn.Parameter(p.detach().float()) for p in half}
        for p in half:
            p.grad_dtype = torch.float32
        super().__init__([self.masters.get(p, p) for p in parameters], **options)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step, and round the copies into their parameters."""
        for p, master in self.masters.items():
            master.grad = p.grad
        loss: float | None = super().step(closure)
        self.publish()
        return loss

    @torch.no_grad()
    def publish(self) -> None:
        """Round the copies into their parameters."""
        for p, master in self.masters.items():
            p.copy_(master)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of parameters and copies."""
        super().zero_grad(set_to_none)
        for p in self.masters:
            p.grad = None


def optimiser_of(policy: Trains, settings: Settings) -> torch.optim.AdamW:
    """Return AdamW over the parameters that train; the loop sets the rate of every step.

    A rate that the settings leave open is the one that suits the policy. Raises ``ValueError`` for a policy without
    anything to train, and for weights in half precision that are cut over processes.
    """
    parameters = policy.parameters()
    if not parameters:
        raise ValueError("the policy has nothing to train: all its weights are frozen; add adapters, heads or tokens")
    half = any(p.dtype in _HALF for p in parameters)
    if half and settings.fsdp:
        raise ValueError("fsdp cuts fp32 weights over processes, and these are in half precision; load them with bf16")
    rate = learning_rate_for(policy) if settings.learning_rate is None else settings.learning_rate
    betas = (settings.adam_beta1, settings.adam_beta2)
    kind = MasterAdamW if half else torch.optim.AdamW
    return kind(parameters, lr=rate, betas=betas, weight_decay=settings.weight_decay)
