"""Bounds on generalisation, and what they are made of.

Source: "Rethinking Reinforcement Fine-Tuning in LVLM: Convergence, Reward Decomposition, and Generalization" (41).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ferrule.core.arrays import Signals

__all__ = ["pac_bayes", "pinsker", "total_variation", "trajectory_kl", "transfer_bound"]


def pac_bayes(risk: float, kl: float, tasks: int, *, delta: float = 0.05) -> float:
    """Bound on the true risk: ``risk + sqrt((kl + ln(2 sqrt(n) / delta)) / (2 n))``, with chance ``1 - delta``.

    ``risk`` is the mean loss (0 to 1) on ``n = tasks`` independent tasks, ``kl`` that of the policy to one fixed before
    the tasks were seen (nats). Raises ``ValueError`` on values outside their range.
    """
    if not 0.0 <= risk <= 1.0 or not kl >= 0 or tasks < 1 or not 0.0 < delta < 1.0:
        raise ValueError(
            f"risk={risk} and delta={delta} must lie in 0 to 1, kl={kl} must be at least 0, tasks={tasks} at least 1"
        )
    return risk + math.sqrt((kl + math.log(2.0 * math.sqrt(tasks) / delta)) / (2.0 * tasks))


def transfer_bound(risk: float, kl: float, tasks: int, shift: float, *, delta: float = 0.05) -> float:
    """Bound on the risk in another domain: ``pac_bayes + shift``, where ``shift`` does not shrink with ``tasks``."""
    return pac_bayes(risk, kl, tasks, delta=delta) + shift


def total_variation(source: Sequence[float], target: Sequence[float]) -> float:
    """Distance of two distributions: ``sum |p - q| / 2``, the most an expectation of values in 0 to 1 can differ."""
    return 0.5 * math.fsum(abs(p - q) for p, q in zip(source, target, strict=True))


def pinsker(kl: float) -> float:
    """Bound on the total variation by the divergence: ``sqrt(kl / 2)``."""
    return math.sqrt(kl / 2.0)


def trajectory_kl(signals: Signals) -> float:
    """Sampled divergence of the policy to the reference: mean over trajectories of ``sum_t (logp - ref)``, in nats.

    Only tokens of the model count. Raises ``ValueError`` without reference log-probs (``Recipe.reference``).
    """
    if signals.ref_NT is None:
        raise ValueError("no reference log-probs in these signals; set Recipe.reference")
    gap_NT = np.where(signals.turn_NT >= 0, signals.logp_NT - signals.ref_NT, 0.0)
    return float(gap_NT.sum() / max(len(gap_NT), 1))
