"""The optimiser of a run, made from its settings."""

from __future__ import annotations

import torch

from ferrule.train.policy import Trains
from ferrule.train.settings import Settings
from ferrule.train.suited import learning_rate_for

__all__ = ["optimiser_of"]


def optimiser_of(policy: Trains, settings: Settings) -> torch.optim.AdamW:
    """Return AdamW over the parameters that train; the loop sets the rate of every step.

    A rate that the settings leave open is the one that suits the policy.
    """
    rate = learning_rate_for(policy) if settings.learning_rate is None else settings.learning_rate
    return torch.optim.AdamW(
        policy.parameters(),
        lr=rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        weight_decay=settings.weight_decay,
    )
