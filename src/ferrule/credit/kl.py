"""KL inside the reward: a penalty per token towards the reference, and controllers for its weight.

Source: "A Technical Survey of Reinforcement Learning Techniques for Large Language Models" (52), RLHF.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ferrule.core.arrays import FloatArray, IntArray, by_name, nearest
from ferrule.core.marks import exempt
from ferrule.credit.wrap import naming

__all__ = ["AdaptiveKL", "kl_penalty", "with_kl_reward"]


@exempt("centred")
def kl_penalty(
    logp_NT: FloatArray,
    ref_NT: FloatArray,
    turn_NT: IntArray,
    *,
    beta: float = 0.01,
    estimator: Literal["k1", "k2", "k3"] = "k1",
) -> FloatArray:
    """Reward per model token for staying near the reference: ``-beta k``.

    With ``x = ref - logp`` in nats: ``k1 = -x``, ``k2 = x^2 / 2``, ``k3 = exp(x) - x - 1`` with ``x`` clamped to
    plus or minus 20. ``k1`` is the usual choice inside a reward. Raises ``ValueError`` on an unknown estimator.
    """
    if estimator not in ("k1", "k2", "k3"):
        raise ValueError(f"estimator is {estimator!r}; {nearest(estimator, ('k1', 'k2', 'k3'))}")
    x_NT = np.where(turn_NT >= 0, ref_NT, 0.0) - np.where(turn_NT >= 0, logp_NT, 0.0)
    if estimator == "k1":
        kl_NT = -x_NT
    elif estimator == "k2":
        kl_NT = x_NT**2 / 2
    else:
        x_NT = np.clip(x_NT, -20.0, 20.0)
        kl_NT = np.exp(x_NT) - x_NT - 1
    return np.asarray(-beta * kl_NT, dtype=np.float64)


def with_kl_reward(
    rule: Callable[..., FloatArray],
    beta: float | AdaptiveKL,
    *,
    estimator: Literal["k1", "k2", "k3"] = "k1",
) -> Callable[..., FloatArray]:
    """Return ``rule`` with a KL penalty inside its rewards; it then reads ``logp_NT`` and ``ref_NT`` as well.

    A rule that names ``token_reward_NT`` (``gae``) gets the penalty per token; any other rule gets it summed over the
    row and added to ``reward_N``. ``beta`` is a number or a controller whose present ``beta`` is used.
    """

    def penalised(**signals: Any) -> FloatArray:
        weight = beta.beta if isinstance(beta, AdaptiveKL) else beta
        penalty_NT = kl_penalty(
            signals["logp_NT"], signals["ref_NT"], signals["turn_NT"], beta=weight, estimator=estimator
        )
        if per_token:
            signals["token_reward_NT"] = penalty_NT
        else:
            signals["reward_N"] = signals["reward_N"] + penalty_NT.sum(axis=1)
        return np.asarray(by_name(rule, signals), dtype=np.float64)

    named = naming(penalised, rule, adds=("logp_NT", "ref_NT", "turn_NT"), hides=("token_reward_NT",))
    per_token = _names(rule, "token_reward_NT")
    if not per_token and not _names(rule, "reward_N"):
        raise ValueError(
            "with_kl_reward needs a rule that names token_reward_NT or reward_N; the penalty would be lost"
        )
    return named


def _names(rule: Callable[..., Any], name: str) -> bool:
    import inspect

    return name in inspect.signature(rule).parameters


class AdaptiveKL:
    """Controller that steers the KL weight towards a target divergence.

    ``beta *= 1 + clip(kl / target - 1, -limit, limit) * n / horizon`` after a batch of ``n`` episodes with mean KL
    ``kl`` (nats per episode or token, in the unit of ``target``).
    """

    def __init__(
        self, beta: float = 0.1, *, target: float = 0.1, horizon: float = 10_000.0, limit: float = 0.2
    ) -> None:
        """Start at ``beta``; ``target`` and ``horizon`` must be positive."""
        if target <= 0 or horizon <= 0:
            raise ValueError(f"AdaptiveKL needs target and horizon above 0, not {target} and {horizon}")
        self.beta, self.target, self.horizon, self.limit = beta, target, horizon, limit

    def update(self, kl: float, n: int) -> float:
        """Adjust to the measured ``kl`` of ``n`` episodes and return the new weight."""
        error = float(np.clip(kl / self.target - 1.0, -self.limit, self.limit))
        self.beta *= 1.0 + error * n / self.horizon
        return self.beta
