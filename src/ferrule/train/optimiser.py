"""The optimiser of a run, made from its settings."""

from __future__ import annotations

import torch

from ferrule.train.policy import Trains
from ferrule.train.settings import Settings

__all__ = ["optimiser_of"]


def optimiser_of(policy: Trains, settings: Settings) -> torch.optim.AdamW:
    """Return AdamW over the parameters that train; the loop sets the rate of every step."""
    return torch.optim.AdamW(
        policy.parameters(),
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        weight_decay=settings.weight_decay,
    )
