"""MatchTIR: Fine-Grained Supervision for Tool-Integrated Reasoning via Bipartite Matching (paper 23), January 2026,
https://arxiv.org/abs/2601.10712.

Judged by its outcome alone, an episode loses all its sound calls to a single mistake. Where a trace of reference calls
is at hand, MatchTIR pairs the calls made with it, strictly or by a transport plan. Each turn earns the mean score of
its calls, the answering turn the overlap of words with the expected answer. Advantages stand on two levels, the
trajectory against its group and the discounted return of a turn against the same turn of the group, and are averaged.

Departures from the paper:

1. ``assignment="exact"`` is the one-to-one matching that the paper describes; the release sorts all pairs and takes
   them greedily (``"greedy"``), which can differ and depends on the order of ties.
2. The model attends to tool results and they are kept out of the loss only; the release computes log-probs as if they
   had not been there.
3. Calls of the answering turn earn nothing, and here they are left out of the matching as well. Calls that could not be
   read are ignored; a turn's mean is over the calls that could. Without reference calls, calls earn nothing.
   Tasks bring their own reference calls (``golds``); the published rows of data are not read.
4. A turn is what one model turn wrote; several accepted answers count by the best of them.
5. The lone member of a turn gets its raw return, as published, which is on another scale than the rest;
   ``singleton="zero"`` leaves it out. A trajectory alone in its group gets 0 on the trajectory level.
6. The claim trains a table. Every turn of its chain has tools of its own, because the matching ignores order and would
   pay for right calls at wrong times. Halves of a chain are judged by their mean advantage: a right turn can be
   punished for the failures after it, which its return contains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray, IntArray
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Call, Score, Task, Trajectory
from ferrule.credit.group import Singleton, group_relative
from ferrule.credit.returns import return_to_go
from ferrule.rewards.calls import call_rewards
from ferrule.rewards.matching import readable
from ferrule.rewards.verify import verify
from ferrule.studies.paper import Paper
from ferrule.worlds.experts import reference_calls

__all__ = ["PAPER", "dual_level", "matchtir_reward", "recipe"]

_WORDS = partial(verify, "words")


def matchtir_reward(
    task: Task,
    trajectories: Sequence[Trajectory],
    *,
    golds: Callable[[Task], Sequence[Call]] = reference_calls,
    answer: Callable[[str | None, Any], float] = _WORDS,
    **matching: Any,
) -> list[Score]:
    """Score every turn by the calls it made or the answer it gave; the value is the sum over turns.

    A turn earns the mean of its ``call_rewards`` (settings: ``matching``), the last turn of an episode that has an
    answer ``answer(given, expected)``, any other turn 0. Parts are ``calls`` and ``answer``. Source: MatchTIR (23).
    """
    wanted = list(golds(task))
    return [_score(task, trajectory, wanted, answer, matching) for trajectory in trajectories]


def _score(task: Task, trajectory: Trajectory, wanted: Sequence[Call], answer: Any, matching: dict[str, Any]) -> Score:
    answers = trajectory.answer is not None and len(trajectory.turns) > 0
    calling = trajectory.turns[:-1] if answers else trajectory.turns
    by_turn = [[call for call in turn.reply.calls if readable(call)] for turn in calling]
    rewards = iter(call_rewards([call for calls in by_turn for call in calls], wanted, **matching))
    turns = [math.fsum(next(rewards) for _ in calls) / len(calls) if calls else 0.0 for calls in by_turn]
    last = [float(answer(trajectory.answer, task.answer))] if answers else []
    parts = {"calls": math.fsum(turns), "answer": math.fsum(last)}
    return Score(math.fsum(parts.values()), turns=(*turns, *last), parts=parts)


def dual_level(
    reward_N: FloatArray,
    group_N: IntArray,
    turn_NT: IntArray,
    turn_reward_NK: FloatArray,
    *,
    gamma: float = 0.9,
    mix: float = 0.5,
    eps: float = 1e-6,
    singleton: Singleton = "raw",
) -> FloatArray:
    """Mix two comparisons: ``A[n, k] = (1 - mix) Z_group(R[n]) + mix Z_group,k(G[n, k])`` on the tokens of turn ``k``.

    ``Z`` subtracts the mean and divides by the unbiased spread plus ``eps``. ``G[n, k] = sum_u>=k gamma^(u-k) r[n, u]``
    is compared with the rows of the group that have a turn ``k``; a lone one gets ``G`` itself (``singleton="raw"``)
    or 0. ``reward_N`` is the whole trajectory's score and not added to the last turn. Raises ``ValueError`` for
    ``mix`` outside 0 to 1. Source: MatchTIR (23).
    """
    if not 0.0 <= mix <= 1.0:
        raise ValueError(f"mix is {mix}; it must lie between 0 and 1")
    whole_NT = group_relative(reward_N, group_N, turn_NT, std="unbiased", eps=eps)
    nothing_N = np.zeros(len(reward_N))
    return_NT = return_to_go(nothing_N, group_N, turn_NT, turn_reward_NK, gamma=gamma, baseline="none")
    turn_level_NT = np.zeros(turn_NT.shape)
    for k in range(int(turn_NT.max(initial=-1)) + 1):
        own_NT = turn_NT == k
        rows = np.flatnonzero(own_NT.any(axis=1))
        value_N = return_NT[rows, own_NT[rows].argmax(axis=1)]
        turn_level_NT[rows] += group_relative(
            value_N, group_N[rows], np.where(own_NT[rows], k, -1), std="unbiased", eps=eps, singleton=singleton
        )
    return (1.0 - mix) * whole_NT + mix * turn_level_NT


def recipe(
    base: Recipe,
    *,
    golds: Callable[[Task], Sequence[Call]] = reference_calls,
    beta: float = 0.001,
    entropy: float = 0.001,
    gamma: float = 0.9,
    mix: float = 0.5,
    singleton: Singleton = "raw",
    **matching: Any,
) -> Recipe:
    """Return ``base`` with turn rewards by matching, dual-level credit, and small KL and entropy terms.

    ``matching`` holds settings of ``call_rewards``, such as ``mode="soft"``; unknown ones are refused.
    """
    from ferrule.objectives.penalty import with_entropy, with_kl
    from ferrule.objectives.surrogate import surrogate

    call_rewards((), (), **matching)
    return vary(
        base,
        reward=partial(matchtir_reward, golds=golds, **matching),
        credit=partial(dual_level, gamma=gamma, mix=mix, singleton=singleton),
        objective=with_entropy(with_kl(surrogate, beta), entropy),
        reference=True,
        num_generations=16,
    )


PAPER = Paper(
    number=23,
    slug="matchtir",
    title="MatchTIR: Fine-Grained Supervision for Tool-Integrated Reasoning via Bipartite Matching",
    date="2026-01",
    url="https://arxiv.org/abs/2601.10712",
    pieces={"reward": matchtir_reward, "credit": dual_level, "recipe": recipe},
    summary="Matches calls with reference calls and compares both whole trajectories and equal turns of a group.",
    reported="A 4B model beats most 8B competitors on three benchmarks (abstract; figures are in images only).",
)
