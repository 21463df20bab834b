"""RLAD: Training LLMs to Discover Abstractions for Solving Reasoning Problems (paper 49), October 2025.

https://arxiv.org/abs/2510.02263

Two players share a problem. One writes abstractions: short facts, lemmas, procedures or warnings that help, without
the answer. The other solves the problem given one of them. A solution is paid for being right, an abstraction for the
share of right solutions among those that used it. At test time the budget then goes into more abstractions rather than
into more solutions of one.

Departures from the paper:

1. No code is public; group sizes, the proposer's update and the kind of leak check are reconstructions. Defaults are 8
   solutions for each of 4 abstractions.
2. The proposer learns by group-relative advantages over the abstractions of a problem. Rejection fine-tuning
   (``accepted``) and preference pairs (``preference_pairs``, with ``objectives.preference.rpo``) are there beside it.
3. An abstraction is taken for a leak when one of ``PROBES`` says so: the answer stands in it, or an expression in it
   evaluates to the answer. A probe that asks a model for the answer from the abstraction alone is a callable as well.
4. Solutions without an abstraction get 0 and advantage 0, and carry a penalty for leaving the reference, which other
   rows do not. ``unaided=True`` pays them as well (the ablation).
5. Groups without an abstraction have no spread by construction; they are kept in spite of the filter.
6. The weight of the penalty is not published; 0.05 is a choice. Overlong answers are not charged (``overlong`` of
   ``ferrule.rewards.efficiency`` does), and answers need no box. The supervised start, taking turns between the players
   and the curriculum are the user's loop.
7. The claim plays tables of decisions over 12 cues, not language models. What the solver leans to under a cue is shared
   by its rows with and without an abstraction, and its proposer learns by rejection fine-tuning. Problems are drawn
   anew in every step, and accuracies are expectations over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ferrule.agents.react import ToolLoop
from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Score, Trajectory
from ferrule.credit.group import group_relative
from ferrule.credit.keep import spread
from ferrule.papers.rlad.pieces import (
    PROBES,
    Probe,
    abstraction_reward,
    accepted,
    best_abstraction,
    computes_answer,
    hand_down,
    hand_up,
    leaks,
    preference_pairs,
    solved_by,
    solver_reward,
    states_answer,
    with_abstraction,
)
from ferrule.studies.paper import Claim, Paper

__all__ = [
    "PAPER", "PROBES", "Probe", "abstraction_reward", "accepted", "best_abstraction", "claim", "computes_answer",
    "hand_down", "hand_up", "leaks", "preference_pairs", "proposer_recipe", "recipe", "solved_by", "solver_reward",
    "states_answer", "unaided_rows", "with_abstraction",
]  # fmt: skip

_PROPOSE = (
    "List what helps to solve the problem below: a fact, a lemma, a procedure or a warning. "
    "Do not solve it and do not state its answer."
)


def unaided_rows(parts_CN: FloatArray, channels: tuple[str, ...], reward_N: FloatArray) -> FloatArray:
    """Return the part ``unaided`` of every row: 1 for solutions that had no abstraction, else 0."""
    return parts_CN[channels.index("unaided")] if "unaided" in channels else np.zeros(len(reward_N))


def _keep(trajectories: Sequence[Trajectory], scores: Sequence[Score]) -> bool:
    return any(score.parts.get("unaided") for score in scores) or spread()(trajectories, scores)


def recipe(
    base: Recipe, *, samples: int = 8, beta: float = 0.05, lo: float = 0.2, hi: float = 0.28, unaided: bool = False
) -> Recipe:
    """Return ``base`` for the solver: paid with an abstraction only, and kept near the reference without one.

    Of ``two_levels`` this is the recipe of the children. Rows without an abstraction are groups of their own (see
    ``groups_of``) that join the children's in ``credit``; ``beta`` weighs their penalty, 0 leaves it out.
    """
    from ferrule.objectives.penalty import add, kl_k3, weighted
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    objective: Any = partial(surrogate, lo=lo, hi=hi)
    return vary(
        base,
        reward=partial(solver_reward, base=base.reward, unaided=unaided),
        credit=partial(group_relative, std="unbiased"),
        keep=_keep,
        objective=add(objective, weighted(kl_k3, "unaided_NT"), beta) if beta else objective,
        beside={"unaided_NT": unaided_rows} if beta else {},
        reference=beta > 0,
        reduce=token_mean,
        samples=samples,
    )


def proposer_recipe(base: Recipe, *, samples: int = 4, role: str = "proposer", max_tokens: int = 256) -> Recipe:
    """Return ``base`` for the proposer: one reply under ``role``, compared with those to the same problem.

    Of ``two_levels`` this is the recipe of the parents; ``hand_up`` scores them in place of its reward.
    """
    agent = ToolLoop(system=_PROPOSE, turns=1, max_tokens=max_tokens, role=role)
    return vary(base, agent=agent, credit=partial(group_relative, std="unbiased"), keep=spread(), samples=samples)


def claim(scale: str = "small", *, seeds: Sequence[int] = (0, 1, 2)) -> Claim:
    """Measure what a trained proposer adds to a solver at an equal number of tokens, and whether it is listened to.

    See ``experiment.conditions``. ``scale`` is ``"small"`` or ``"tiny"`` (to try the machinery).
    """
    from ferrule.papers.rlad.experiment import measure

    return measure(scale, seeds)


PAPER = Paper(
    number=49,
    slug="rlad",
    title="RLAD: Training LLMs to Discover Abstractions for Solving Reasoning Problems",
    date="2025-10",
    url="https://arxiv.org/abs/2510.02263",
    pieces={"solver": solver_reward, "proposer": hand_up, "leaks": leaks, "recipe": recipe},
    claim=claim,
    summary="A proposer is paid for how far its abstractions lift a solver, which is paid for solving with them.",
)
