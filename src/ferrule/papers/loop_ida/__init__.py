"""LOOP: Reinforcement Learning for Long-Horizon Interactive LLM Agents (paper 32), February 2025.

https://arxiv.org/abs/2502.01600

Episodes in a stateful simulator are expensive, so each of them should be used more than once, and without a value
network. Every return is compared with the mean of the other rollouts of its task, rollouts whose advantage is next to
nothing are set aside, and the rest is used for several epochs with a ratio per token, a clip range whose lower end is
``1 / (1 + e)``, and a mean per rollout.

Departures from the paper:

1. A rollout with a small advantage has its advantage set to 0 and stays in the denominators. The released code removes
   it and divides by a constant, which comes to the same gradient, but takes fewer gradient steps per iteration. The
   number of parts of a batch is fixed here; 8 is what 40 tasks with 6 rollouts in parts of 32 make.
2. Log-probs of the old policy are those of the sampler, which is the trained model itself in this framework; an engine
   that rounds differently is watched by the trainer. Log-ratios are bounded at 20 nats per token in place of a stop.
3. Collection does not stop early: the rollouts it would cut off are the long, hard ones.
4. The constant that the code may add to every advantage (0 by default there) is left out.
5. Tests that pass before any action would pay for doing nothing; the world ``apps`` gives an untouched state 0.
6. Adapters on frozen weights are a matter of the policy and are not part of the recipe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from ferrule.core.arrays import chain
from ferrule.core.paper import Claim, Paper
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Reward, Score, Task, Trajectory
from ferrule.credit.group import leave_one_out
from ferrule.credit.shape import drop_small
from ferrule.rewards.outcome import outcome

__all__ = ["PAPER", "claim", "dense_return", "failed_calls", "idle_turns", "plain", "recipe", "tests_passed"]


def tests_passed(trajectory: Trajectory) -> float | None:
    """Return the share of the world's checks that hold at the end (``final["partial"]``), None where there are none."""
    share = trajectory.final.get("partial")
    return None if share is None else float(share)


def failed_calls(trajectory: Trajectory) -> int:
    """Count calls that ran and failed, or ran out of time."""
    return sum(observation.status in ("error", "timeout") for _, observation in trajectory.calls)


def idle_turns(trajectory: Trajectory) -> int:
    """Count turns without a call; a last one that came to an answer is none."""
    turns = trajectory.turns
    idle = sum(not turn.reply.calls for turn in turns)
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
    or nothing is its part ``outcome``); both prices are 0 in the released code.
    """
    out = []
    for score, trajectory in zip(base(task, trajectories), trajectories, strict=True):
        share = tests_passed(trajectory)
        passed = score.value if share is None else share
        cost = failed * failed_calls(trajectory) + idle * idle_turns(trajectory)
        out.append(Score(max(0.0, passed - cost), parts=score.parts, info={**score.info, "passed": passed}))
    return out


def recipe(
    base: Recipe,
    *,
    clip: float = 0.1,
    least: float = 0.01,
    samples: int = 6,
    epochs: int = 2,
    minibatches: int = 8,
    ratio: Literal["token", "sequence", "product"] = "token",
) -> Recipe:
    """Return ``base`` with leave-one-out credit and several clipped epochs over the same rollouts.

    ``ratio="product"`` takes one ratio per rollout, the product of its tokens' ratios. ``clip=math.inf`` does not clip.
    """
    from ferrule.objectives.reduce import sequence_mean
    from ferrule.objectives.surrogate import surrogate

    objective: Any = partial(surrogate, lo=clip, hi=clip, reciprocal=True, ratio=ratio)
    return vary(
        base,
        reward=partial(dense_return, base=base.reward),
        credit=chain(leave_one_out, partial(drop_small, least=least)),
        objective=objective,
        reduce=sequence_mean,
        samples=samples,
        epochs=epochs,
        minibatches=minibatches,
        reference=False,
    )


def plain(base: Recipe) -> Recipe:
    """Return the control: the same credit, one gradient step per batch, nothing clipped."""
    return recipe(base, clip=math.inf, epochs=1, minibatches=1)


def claim(scale: str = "small", *, seeds: Sequence[int] = (0, 1, 2, 3, 4)) -> Claim:
    """Measure how many episodes the reuse of rollouts saves, and what the clip range is for."""
    from ferrule.papers.loop_ida.experiment import measure

    return measure(scale, seeds)


PAPER = Paper(
    number=32,
    slug="loop-ida",
    title="Reinforcement Learning for Long-Horizon Interactive LLM Agents",
    date="2025-02",
    url="https://arxiv.org/abs/2502.01600",
    pieces={"reward": dense_return, "credit": leave_one_out, "filter": drop_small, "recipe": recipe},
    claim=claim,
    summary="Uses every expensive rollout for several clipped epochs, with the other rollouts' mean as baseline.",
)
