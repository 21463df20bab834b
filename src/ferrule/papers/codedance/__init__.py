"""CodeDance: executable visual reasoning with a balanced adaptive tool reward (paper 04), December 2025.

https://arxiv.org/abs/2512.17312

A model that reasons with code learns to call it everywhere when each success is paid, and forgets it when only answers
are. Here the pay of a successful call follows how hard the prompt proved within the group: high where nobody solved
it, below zero where everybody did. Beside the comparison of episodes, every turn whose code failed is blamed by itself.

Departures from the paper:

1. Difficulty is the group's mean base score, as in the released code; the text of the paper speaks of accuracy, which
   leaves out the weight of accuracy and the form penalty: ``difficulty_by="accuracy"``.
2. A call succeeded when the executor says so. The published rule (text that mentions an error or a timeout, and runs
   that print nothing, are failures as well) is ``reference=True``.
3. An episode without an answer, or with one of 1000 characters, has a form error, and so have replies whose tags break
   the published form (``tag_error``). Replies without any of these tags pass; with ``reference=True`` they do not.
4. Correctness comes from the base recipe's verifier; the judge model is left out, and so are images, the supervised
   data, the limits of the loop and the interpreter's rollback.
5. A turn's own value is that of its worst call. Turns that end an episode without a call are final; a last turn that
   still calls is blamed like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray, Signals, apply, spread_turns
from ferrule.core.marks import exempt
from ferrule.core.recipe import Recipe, vary
from ferrule.credit.group import group_relative
from ferrule.papers.codedance.reward import (
    FAMILIES,
    Family,
    balanced_reward,
    difficulty,
    succeeded,
    tag_error,
)
from ferrule.studies.paper import Claim, Paper

__all__ = [
    "FAMILIES",
    "PAPER",
    "Family",
    "balanced_reward",
    "claim",
    "difficulty",
    "recipe",
    "succeeded",
    "tag_error",
    "turn_credit",
    "turn_returns",
    "two_levels",
]


def turn_returns(rewards: Sequence[float], *, beta: float = 0.2) -> list[float]:
    """Discounted sums over later turns: ``g_k = r_k + beta g_(k+1)``."""
    out: list[float] = []
    for reward in reversed(rewards):
        out.append(reward + beta * (out[-1] if out else 0.0))
    return out[::-1]


@exempt("independent")
def turn_credit(signals: Signals, *, beta: float = 0.2) -> FloatArray:
    """Give every turn the z-score of its return over all turns of the batch that are not final, 0 to final ones.

    The spread is the population's; returns that do not differ are kept as they are. A row's last turn is final when
    its part ``closed`` is 1 (without that part: always).
    """
    closed_N = np.ones(len(signals.turns_N))
    if "closed" in signals.channels:
        closed_N = signals.parts_CN[signals.channels.index("closed")]
    value_NK = np.zeros(signals.turn_reward_NK.shape)
    open_NK = np.zeros(value_NK.shape, dtype=bool)
    for n, (count, closed) in enumerate(zip(signals.turns_N, closed_N, strict=True)):
        rewards = signals.turn_reward_NK[n, : int(count) - int(closed > 0.5)] if count else np.zeros(0)
        value_NK[n, : len(rewards)] = turn_returns([float(r) for r in rewards], beta=beta)
        open_NK[n, : len(rewards)] = True
    pool = value_NK[open_NK]
    if pool.size and pool.std() > 1e-8:
        value_NK[open_NK] = (pool - pool.mean()) / pool.std()
    return spread_turns(value_NK, signals.turn_NT)


@exempt("independent")
def two_levels(signals: Signals, *, weight: float = 0.2, beta: float = 0.2, eps: float = 1e-6) -> FloatArray:
    """Add both levels: the group's z-score of an episode, and ``weight`` times ``turn_credit`` of its turn.

    The z-score's spread is unbiased.
    """
    compare: Any = partial(group_relative, std="unbiased", eps=eps)
    return apply(compare, signals) + weight * turn_credit(signals, beta=beta)


def recipe(base: Recipe, *, samples: int = 8, family: str = "default", reference: bool = False) -> Recipe:
    """Return ``base`` with calls paid by difficulty and blame per turn; no divergence term."""
    from ferrule.objectives.surrogate import surrogate

    return vary(
        base,
        reward=partial(balanced_reward, base=base.reward, family=family, reference=reference),
        credit=two_levels,
        objective=surrogate,
        samples=samples,
        reference=False,
    )


def claim(scale: str = "small", *, seeds: Sequence[int] = (0, 1, 2, 3, 4)) -> Claim:
    """Measure whether calls stay where prompts are hard and leave where they are easy, at no loss of accuracy."""
    from ferrule.papers.codedance.experiment import measure

    return measure(scale, seeds)


PAPER = Paper(
    number=4,
    slug="codedance",
    title="CodeDance: A Dynamic Tool-integrated MLLM for Executable Visual Reasoning",
    date="2025-12",
    url="https://arxiv.org/abs/2512.17312",
    pieces={"reward": balanced_reward, "credit": two_levels, "recipe": recipe},
    claim=claim,
    summary="Pays successful calls by how hard the prompt proved in the group, and blames turns whose code failed.",
)
