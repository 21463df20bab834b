"""Settings that suit a model and a method, for whoever names none: tasks of a step, and the learning rate."""

from __future__ import annotations

import math
from typing import Any

from ferrule.core.recipe import Method, Part, Stage
from ferrule.train.check import parts_of, recipes_of
from ferrule.train.policy import Trains
from ferrule.train.settings import Settings

__all__ = ["learning_rate_for", "suited"]

TASKS = 8
"""Tasks of a step: with fewer, one odd task moves all weights."""
_RATES = ((30e6, 3e-4), (1e9, 1e-5), (math.inf, 1e-6))
"""Rates of full weights by the number of parameters they hold up to: small models take, and need, larger ones."""
_ADAPTERS, _MOST = 10.0, 1e-3


def learning_rate_for(policy: Trains) -> float:
    """Return a learning rate of reinforcement learning: 3e-4 below 30 M parameters, 1e-5 below 1 B, 1e-6 above.

    Adapters train at ten times the rate of full weights, but never above 1e-3. Source of the factor: Schulman and
    others, "LoRA Without Regret" (2025).
    """
    trained = sum(parameter.numel() for parameter in policy.parameters())
    size = sum(parameter.numel() for parameter in policy.model.parameters())
    rate = next(rate for most, rate in _RATES if size < most)
    return min(rate * _ADAPTERS, _MOST) if trained < size / 2 else rate


def suited(policy: Trains, method: Method | Part, *, processes: int = 1, **given: Any) -> Settings:
    """Return settings in which everything that is not ``given`` suits the policy and the method.

    A step of a method that plays episodes holds at least 8 tasks: ``gradient_accumulation_steps`` is what these take,
    in whole groups on every process, at the given or usual ``per_device_train_batch_size``.
    """
    given.setdefault("learning_rate", learning_rate_for(policy))
    sizes = [recipes_of(part)[0].num_generations for part in parts_of(method) if not isinstance(part, Stage)]
    if sizes and "gradient_accumulation_steps" not in given:
        rows = given.get("per_device_train_batch_size", Settings.per_device_train_batch_size)
        whole = math.lcm(rows * processes, *sizes)  # the fewest samples that leave no remainder in any part
        least = math.ceil(TASKS * max(sizes) / whole) * whole
        given["gradient_accumulation_steps"] = least // (rows * processes)
    return Settings(**given)
