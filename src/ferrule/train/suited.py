"""What suits a model and a method where the settings leave it open: the learning rate, and the tasks of a step."""

from __future__ import annotations

import math
from dataclasses import replace

from ferrule.core.recipe import Method, Part
from ferrule.train.check import sized
from ferrule.train.policy import Trains
from ferrule.train.settings import Settings

__all__ = ["learning_rate_for", "suited"]

_RATES = ((30e6, 3e-4), (1e9, 1e-5), (math.inf, 1e-6))
"""Rates of full weights by the number of parameters they hold up to: small models take, and need, larger ones."""
_ADAPTERS, _MOST = 10.0, 1e-3


def learning_rate_for(policy: Trains, *, least: float = 0.0) -> float:
    """Return a learning rate of reinforcement learning: 3e-4 below 30 M parameters, 1e-5 below 1 B, 1e-6 above.

    ``least`` bounds the rates of full weights from below: supervised fine-tuning of large models takes larger ones.
    Adapters train at ten times the rate of full weights, but never above 1e-3. Source of the factor: Schulman and
    others, "LoRA Without Regret" (2025).
    """
    trained = sum(parameter.numel() for parameter in policy.parameters())
    size = sum(parameter.numel() for parameter in policy.model.parameters())
    rate = max(least, next(rate for most, rate in _RATES if size < most))
    return min(rate * _ADAPTERS, _MOST) if trained < size / 2 else rate


def suited(policy: Trains, method: Method | Part, settings: Settings, *, processes: int = 1) -> Settings:
    """Return ``settings`` with what they leave open (None) chosen: what they give stays.

    The learning rate is that of ``learning_rate_for``, the number of batches that of ``ferrule.train.check.sized``.
    ``train`` and ``ferrule train`` both begin with this.
    """
    chosen = sized(method, settings, processes)
    return chosen if chosen.learning_rate is not None else replace(chosen, learning_rate=learning_rate_for(policy))
