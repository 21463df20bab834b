"""LOOP: Reinforcement Learning for Long-Horizon Interactive LLM Agents (paper 32), February 2025.

https://arxiv.org/abs/2502.01600

Episodes in a stateful simulator are expensive, so each of them should be used more than once, and without a value
network. Every return is compared with the mean of the other rollouts of its task, rollouts whose advantage is next to
nothing are set aside, and the rest is used for several epochs with a ratio per token, a clip range whose lower end is
``1 / (1 + e)``, and a mean per rollout.

Departures from the paper:

1. Minibatches hold 32 rollouts whose advantage is not next to nothing, and the divisor stays 32 where fewer are left.
   A trajectory whose context was rewritten counts once per context. ``num_mini_batches`` makes a fixed number of
   parts instead (8 is what 40 tasks with 6 rollouts in parts of 32 make), in which set-aside rollouts stay in the
   denominators; the claim does that, because its batches hold 48 rollouts.
2. Log-probs of the old policy are those of the sampler, which is the trained model itself in this framework; an engine
   that rounds differently is watched by the trainer. The mean log-ratio that ends the steps is that of a minibatch,
   which is left out itself; log-ratios are bounded at 20 nats per token beside.
3. Collection may stop early (``enough=most_of``: nine in ten of all rollouts and three in four of every task). By
   default it waits for all: the rollouts it would cut off are the long, hard ones, and which they are depends on the
   speed of tools, so that a run no longer repeats to the same numbers.
4. The constant that the code may add to every advantage is ``push`` (0 as there), the other baselines are rules for
   ``credit``. Tokens beyond a learning length carry no loss (``longest``, 32,000 in the paper and no limit here). The
   clipped norm, the rate, the number of interactions and the agent's prompt are the user's; the optional search over
   code blocks at test time is not built.
5. Tests that pass before any action would pay for doing nothing; the world ``apps`` gives an untouched state 0.
6. Adapters on frozen weights are a matter of the policy and are not part of the recipe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from ferrule.core.arrays import BoolArray, FloatArray, IntArray, chain, nearest
from ferrule.core.flows import Reward
from ferrule.core.marks import exempt
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Score, Task, Trajectory
from ferrule.credit.group import leave_one_out
from ferrule.credit.shape import drop_small
from ferrule.rewards.format import failed_calls
from ferrule.rewards.matching import readable
from ferrule.rewards.outcome import outcome
from ferrule.rollout.enough import Enough, most_of
from ferrule.studies.paper import Paper

__all__ = ["PAPER", "dense_return", "first_tokens", "idle_turns", "plain", "pushed", "recipe", "tests_passed"]


def tests_passed(trajectory: Trajectory) -> float | None:
    """Return the share of the world's checks that hold at the end (``final["partial"]``), None without checks."""
    share = trajectory.final.get("partial")
    if share is not None and not math.isfinite(share):
        raise ValueError(f"the world reports {share} as its share of passed tests; it must be finite")
    return None if share is None else float(share)


def idle_turns(trajectory: Trajectory) -> int:
    """Count turns without a call that could be read; but not a last one that gave an answer instead."""
    turns = trajectory.turns
    idle = sum(not any(readable(call) for call in turn.reply.calls) for turn in turns)
    return idle - int(bool(turns) and not turns[-1].reply.calls and trajectory.answer is not None)


def dense_return(
    task: Task,
    trajectories: Sequence[Trajectory],
    *,
    base: Reward = outcome,
    failed: float = 0.0,
    idle: float = 0.0,
) -> list[Score]:
    """Score ``max(0, passed - failed * failed_calls - idle * idle_turns)`` where ``passed`` is the share of tests.

    Where the world reports no checks, ``passed`` is the value of ``base``. The parts are those of ``base`` (all tests
    or nothing is its part ``outcome``); both prices are 0 in the released code. Raises ``ValueError`` on a price below
    0, and on a share of tests that is not finite.
    """
    if failed < 0 or idle < 0:
        raise ValueError(f"prices are failed={failed} and idle={idle}; the least is 0")
    scores = []
    for score, trajectory in zip(base(task, trajectories), trajectories, strict=True):
        share = tests_passed(trajectory)
        passed = score.value if share is None else share
        cost = failed * failed_calls(trajectory) + idle * idle_turns(trajectory)
        scores.append(replace(score, value=max(0.0, passed - cost), info={**score.info, "passed": passed}))
    return scores


@exempt("centred")
def pushed(adv_NT: FloatArray, *, by: float = 0.0) -> FloatArray:
    """Add a constant to every advantage that is not 0."""
    return np.where(adv_NT != 0.0, adv_NT + by, 0.0)


def first_tokens(ids_NT: IntArray, *, longest: int) -> BoolArray:
    """Say which tokens lie among the first ``longest`` of their row, prompt and observations included."""
    return np.broadcast_to(np.arange(ids_NT.shape[1]) < longest, ids_NT.shape)


def recipe(
    base: Recipe,
    *,
    clip: float = 0.1,
    least: float = 0.01,
    num_generations: int = 6,
    num_iterations: int = 2,
    mini_batch_size: int = 32,
    num_mini_batches: int | None = None,
    max_log_ratio: float | None = 20.0,
    enough: Enough | None = None,
    ratio: Literal["token", "sequence", "product"] = "token",
    credit: Callable[..., FloatArray] = leave_one_out,
    push: float = 0.0,
    longest: int | None = None,
) -> Recipe:
    """Return ``base`` with leave-one-out credit and several clipped epochs over the same rollouts.

    Steps take ``mini_batch_size`` rollouts, or make ``num_mini_batches`` parts of a batch where that is given.
    ``max_log_ratio`` and ``enough`` are those of ``Recipe``. ``ratio="product"`` takes one ratio per rollout, the
    product of its tokens' ratios. ``clip=math.inf`` does not clip. ``credit`` takes another baseline
    (``group_relative`` is the group's mean), ``push`` is added to all advantages that are left. Tokens
    behind the first ``longest`` of a rollout carry no loss. Raises ``ValueError`` on a clip range or length below 0 and
    an unknown ratio.
    """
    if not clip >= 0:
        raise ValueError(f"clip is {clip}; the least is 0")
    if longest is not None and (longest < 0 or base.mask is not None):
        raise ValueError(f"longest is {longest}; the least is 0, and the base recipe must have no mask of its own")
    if ratio not in ("token", "sequence", "product"):
        raise ValueError(f"ratio is {ratio!r}; {nearest(ratio, ('token', 'sequence', 'product'))}")
    from ferrule.objectives.reduce import sequence_mean
    from ferrule.objectives.surrogate import surrogate

    objective: Any = partial(surrogate, lo=clip, hi=clip, reciprocal=True, ratio=ratio)
    return vary(
        base,
        reward=partial(dense_return, base=base.reward),
        credit=chain(credit, partial(drop_small, least=least), *([partial(pushed, by=push)] if push else [])),
        objective=objective,
        reduce=sequence_mean,
        num_generations=num_generations,
        num_iterations=num_iterations,
        num_mini_batches=1 if num_mini_batches is None else num_mini_batches,
        mini_batch_size=mini_batch_size if num_mini_batches is None else None,
        max_log_ratio=max_log_ratio,
        enough=enough,
        mask=base.mask if longest is None else partial(first_tokens, longest=longest),
        reference=False,
    )


def plain(base: Recipe) -> Recipe:
    """Return the control: the same credit, one gradient step per batch, nothing clipped."""
    return recipe(base, clip=math.inf, num_iterations=1, num_mini_batches=1, max_log_ratio=None)


PAPER = Paper(
    number=32,
    slug="loop-ida",
    title="Reinforcement Learning for Long-Horizon Interactive LLM Agents",
    date="2025-02",
    url="https://arxiv.org/abs/2502.01600",
    pieces={"reward": dense_return, "credit": leave_one_out, "filter": drop_small, "enough": most_of, "recipe": recipe},
    summary="Uses every expensive rollout for several clipped epochs, with the other rollouts' mean as baseline.",
    reported="AppWorld: a 32B agent beats OpenAI o1 by 9 points (abstract).",
)
