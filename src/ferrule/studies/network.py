"""A small network in place of a table's rows: states share weights through their features.

Its weights are one flat vector, which ``table.Weights`` and ``table.train_table`` take as ``start`` together with the
map ``layers`` as ``tie``.
"""

from __future__ import annotations

import numpy as np
import torch

from ferrule.core.arrays import FloatArray
from ferrule.studies.table import Tie

__all__ = ["BARRED", "fitted", "layers", "weight_count"]

BARRED = -40.0
"""Added to the logit of a decision that is out of reach."""


def weight_count(features: int, hidden: int, actions: int) -> int:
    """Return the number of weights of ``layers``, biases included."""
    return (features + 1) * hidden + (hidden + 1) * actions


def layers(feature_SF: FloatArray, barred_SA: FloatArray, *, hidden: int) -> Tie:
    """Return the map from flat weights to logits: one layer of ``hidden`` tanh units over the features of every state.

    ``logits = tanh(feature W + b) V + c + barred``; ``barred_SA`` is 0, or ``BARRED`` where a state lacks an action.
    """
    inputs, barred = torch.from_numpy(feature_SF), torch.from_numpy(barred_SA)
    width, actions = inputs.shape[1] + 1, barred.shape[1]

    def logits(weights: torch.Tensor) -> torch.Tensor:
        first = weights[: width * hidden].reshape(width, hidden)
        second = weights[width * hidden :].reshape(hidden + 1, actions)
        inner = (inputs @ first[:-1] + first[-1]).tanh()
        return inner @ second[:-1] + second[-1] + barred

    return logits


def fitted(
    start: FloatArray, tie: Tie, wanted_SA: FloatArray, weight_S: FloatArray, *, steps: int = 300, rate: float = 0.02
) -> FloatArray:
    """Fit weights to wanted chances of all states by cross-entropy (Adam) and return them.

    ``weight_S`` says how much every state counts.
    """
    weights = torch.tensor(start, requires_grad=True)
    wanted, weight = torch.from_numpy(wanted_SA), torch.from_numpy(weight_S)
    optimiser = torch.optim.Adam([weights], lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = -((wanted * tie(weights).log_softmax(-1)).sum(1) * weight).sum() / weight.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return np.asarray(weights.detach().numpy(), dtype=np.float64)
