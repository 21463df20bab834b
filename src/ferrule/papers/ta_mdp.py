"""TA-MDP: Rethinking Reinforcement Fine-Tuning in LVLM: Convergence, Reward Decomposition, and Generalization
(paper 41), April 2026, https://arxiv.org/abs/2604.19857.

Agents with tools are tuned on a sum of verifiable rewards: form, accuracy, executable calls. Normalising the sum within
a group, or each component before summing, are two algorithms: the first weighs a component by its spread in the group,
the second by its stated weight. Both are built here, with the weights that the first one really uses; the paper's
bounds on generalisation are in ``ferrule.evaluate.bounds``.

Departures from the paper:

1. The full text was not at hand: no constant of a theorem is reproduced, and the convergence rate is only measured.
2. Two printed proofs have gaps and nothing here relies on them: the bridge between the two objectives (its ``Delta`` is
   identically zero, while the weights differ), and the shift between domains, which does not shrink with the number of
   tasks (``transfer_bound`` adds it whole).
3. A component that is constant in a group weighs 0, also without ``eps``; an episode without calls has nothing that
   failed, so its share of executable calls is 1 (``idle``).
4. The two forms differ in scale as well (the stated weights do not add up to a unit of spread). The claim compares
   directions by whitening both; the decomposed form as stated is an arm of its own. The lead of the decomposed form on
   the rare component there does not come from a larger weight: in groups where that component varies at all, the joint
   form weighs it no less.
5. At most ``D`` calls per episode is ``limited(world, D)``: a call too many is refused, and tools that can no longer be
   called are not offered. The refused call counts against executability, not against form. A model that read the list
   of tools at the beginning keeps it: what was fed never changes. A world's own budget (``Arithmetic(calls=2)``)
   refuses and goes on offering.
6. The advantages of the components are summed and clipped once. ``ferrule.credit.channels.per_channel`` clips each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import numpy as np

from ferrule.core.arrays import Signals, apply, nearest
from ferrule.core.flows import Reward
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Score, Task, Trajectory
from ferrule.credit.channels import ChannelRule, effective_weights, normalise_then_sum, sum_then_normalise
from ferrule.credit.group import Spread, group_relative
from ferrule.evaluate.bounds import pac_bayes, transfer_bound
from ferrule.rewards.combine import weighted
from ferrule.rewards.format import executability, format_reward
from ferrule.rewards.outcome import outcome
from ferrule.studies.paper import Paper
from ferrule.worlds.limited import limited

__all__ = [
    "PAPER", "WEIGHTS", "composite", "composite_reward", "decomposed", "identity_gap", "joint",
    "recipe", "well_formed",
]  # fmt: skip

WEIGHTS: Mapping[str, float] = MappingProxyType({"format": 0.1, "accuracy": 0.6, "tools": 0.3})
"""Weights of the components; they are configuration, not results."""


def well_formed(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Score 1 for an episode with an answer whose calls could all be read and name tools on offer, else 0."""
    return [Score(float(score.value == 1.0)) for score in format_reward(task, trajectories)]


def composite(members: Mapping[str, Reward], weights: Mapping[str, float] = WEIGHTS) -> Reward:
    """Return the reward ``sum_k w_k r_k`` that keeps its components as parts, for the ``members`` that are given.

    Raises ``ValueError`` for a member without a weight.
    """
    for name in members:
        if name not in weights:
            raise ValueError(f"no weight for component {name!r}; {nearest(name, list(weights))}")
    return weighted({name: (member, weights[name]) for name, member in members.items()})


def composite_reward(
    task: Task,
    trajectories: Sequence[Trajectory],
    *,
    accuracy: Reward = outcome,
    tools: Reward = executability,
    weights: Mapping[str, float] = WEIGHTS,
) -> list[Score]:
    """Score form, ``accuracy`` and ``tools`` by ``weights``. Source: TA-MDP (41)."""
    members: dict[str, Reward] = {"format": well_formed, "accuracy": accuracy, "tools": tools}
    return list(composite(members, weights)(task, trajectories))


def joint(
    *, weights: Mapping[str, float] | None = WEIGHTS, eps: float = 1e-6, std: Spread = "population"
) -> ChannelRule:
    """Return the rule ``(R - mean R) / std R`` of the weighted sum ``R``."""
    return sum_then_normalise(partial(group_relative, std=std, eps=eps), weights=weights)


def decomposed(
    *, weights: Mapping[str, float] | None = WEIGHTS, eps: float = 1e-6, std: Spread = "population"
) -> ChannelRule:
    """Return the rule ``sum_k w_k (r_k - mean r_k) / std r_k``."""
    return normalise_then_sum(partial(group_relative, std=std, eps=eps), weights=weights)


def identity_gap(signals: Signals, *, weights: Mapping[str, float] = WEIGHTS, std: Spread = "population") -> float:
    """Largest difference, over tokens, between joint credit and its components at their effective weights.

    ``A_joint = sum_k (w_k std r_k / std R) A_k`` holds exactly without ``eps``, so this is rounding error.
    """
    weights_C = np.asarray([weights[name] for name in signals.channels])
    ddof = int(std == "unbiased")
    real_GC = effective_weights(signals.parts_CN, signals.group_N, weights_C=weights_C, ddof=ddof)
    _, index_N = np.unique(signals.group_N, return_inverse=True)
    total_NT = np.zeros(signals.turn_NT.shape)
    for c, name in enumerate(signals.channels):
        alone = decomposed(weights={channel: float(channel == name) for channel in signals.channels}, eps=0.0, std=std)
        total_NT += real_GC[index_N, c][:, None] * apply(alone, signals)
    return float(np.abs(apply(joint(weights=weights, eps=0.0, std=std), signals) - total_NT).max(initial=0.0))


_RULES: Mapping[str, Callable[..., ChannelRule]] = {"decomposed": decomposed, "joint": joint}


def recipe(
    base: Recipe,
    *,
    combine: str = "decomposed",
    weights: Mapping[str, float] = WEIGHTS,
    std: Spread = "population",
    tools: Reward = executability,
) -> Recipe:
    """Return ``base`` with the composite reward around its own, and credit that is ``decomposed`` or ``joint``."""
    if combine not in _RULES:
        raise ValueError(f"combine is {combine!r}; {nearest(combine, list(_RULES))}")
    reward = partial(composite_reward, accuracy=base.reward, tools=tools, weights=weights)
    return vary(base, reward=reward, credit=_RULES[combine](weights=weights, std=std))


PAPER = Paper(
    number=41,
    slug="ta-mdp",
    title="Rethinking Reinforcement Fine-Tuning in LVLM: Convergence, Reward Decomposition, and Generalization",
    date="2026-04",
    url="https://arxiv.org/abs/2604.19857",
    pieces={
        "reward": composite_reward,
        "credit": decomposed,
        "joint": joint,
        "bound": pac_bayes,
        "transfer_bound": transfer_bound,
        "world": limited,
        "recipe": recipe,
    },
    summary="Compares normalising a sum of rewards with summing normalised ones, and measures the weights that result.",
    reported="Theorems alone; no experimental figures confirmed.",
)
