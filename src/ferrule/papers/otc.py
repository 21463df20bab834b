"""OTC: Optimal Tool Calls via Reinforcement Learning (paper 06), April 2025, https://arxiv.org/abs/2504.14870.

Rewarding only the final answer teaches a model to call tools more than it needs, because a further call never hurts.
OTC multiplies the correctness reward by a coefficient that is 1 at the smallest number of calls that still solves
the question and falls off on either side. That number is estimated in hindsight, from the right answers of the group. A
product, unlike a sum, gives a wrong answer nothing for being frugal.

Departures from the paper:

1. The values of ``c`` and ``alpha`` are choices: ``c = 4`` (a usual call budget) and ``alpha = 1``.
2. The coefficient multiplies positive base rewards only. With rewards of -1 and +1 the published product would shrink
   the penalty of wrong answers that waste calls, that is, reward waste.
3. Which calls count is a hook, ``cost(call, observation)``; by default every executed call counts 1 and calls that
   never ran are free.
4. The running minimum over epochs (``BestCalls``) is off by default: with it the optimum may lie below anything the
   present group can reach.
5. The claim adds a third kind of question that no number of calls solves, so that frugality on wrong answers can be
   seen apart from frugality on right ones.
6. How far calls fall depends on exploration, because the optimum is taken from sampled rollouts: a start that hardly
   ever tries zero calls settles at a higher number on easy questions. The claim starts broad (standard deviation of
   about 2 calls around 4) and reports a narrow start (1 call) as an arm of its own, ``otc_narrow``, outside the
   verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from ferrule.core.flows import Reward
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Score, Task, Trajectory
from ferrule.rewards.efficiency import Cost, call_cost, unit_cost
from ferrule.rewards.outcome import outcome
from ferrule.studies.paper import Paper

__all__ = [
    "PAPER",
    "BestCalls",
    "coefficient_alone",
    "coefficient_group",
    "otc_reward",
    "recipe",
    "solved",
]


def coefficient_alone(calls: float, *, c: float = 4.0) -> float:
    """Efficiency without a group: ``cos(m pi / (2 m + c))``, 1 at no calls, falling towards 0 (the PPO form).

    ``c`` above 0 sets the pace. Raises ``ValueError`` otherwise.
    """
    if c <= 0:
        raise ValueError(f"c is {c}; it must be above 0")
    return math.cos(calls * math.pi / (2 * calls + c))


def coefficient_group(calls: float, best: float, *, c: float = 4.0) -> float:
    """Efficiency given the smallest successful number of calls ``n = best`` (the GRPO form).

    ``f = 2 n m / (m + n)``; the coefficient is ``sin(f pi / (2 n))``, which is 1 exactly at ``m = n``, and for ``n =
    0`` it is ``coefficient_alone(m)``.
    """
    if best == 0:
        return coefficient_alone(calls, c=c)
    return math.sin(2 * best * calls / (calls + best) * math.pi / (2 * best))


class BestCalls:
    """Running minimum of successful calls per task id across epochs."""

    def __init__(self) -> None:
        self.best: dict[str, float] = {}

    def update(self, task_id: str, calls: float) -> float:
        """Take in a group's minimum and return the minimum so far."""
        self.best[task_id] = min(calls, self.best.get(task_id, calls))
        return self.best[task_id]


def solved(score: Score) -> bool:
    """Say whether a base score means a right answer: its part ``outcome`` (else its value) is above 0."""
    return score.parts.get("outcome", score.value) > 0


def otc_reward(
    task: Task,
    trajectories: Sequence[Trajectory],
    *,
    base: Reward = outcome,
    alpha: float = 1.0,
    c: float = 4.0,
    grouped: bool = True,
    cost: Cost = unit_cost,
    correct: Callable[[Score], bool] = solved,
    memory: BestCalls | None = None,
) -> list[Score]:
    """Scale positive base rewards by call efficiency: ``alpha * coefficient(m, n) * r0``.

    ``n`` is the smallest cost among the group's right answers (and ``memory``'s, when given). Wrong answers keep
    their base reward. ``grouped=False`` uses the form without a group, ``coefficient_alone``. Parts and turn scores
    are those of the base; ``info`` holds the ``coefficient`` and the ``calls`` counted.
    """
    scores = base(task, trajectories)
    costs = [call_cost(trajectory, cost) for trajectory in trajectories]
    right = [m for m, score in zip(costs, scores, strict=True) if correct(score)]
    best = min(right, default=None)
    if best is not None and memory is not None:
        best = memory.update(task.id, best)
    scaled = []
    for m, score in zip(costs, scores, strict=True):
        factor = 1.0
        if best is not None and correct(score) and score.value > 0:
            factor = alpha * (coefficient_group(m, best, c=c) if grouped else coefficient_alone(m, c=c))
        scaled.append(
            Score(
                value=factor * score.value,
                turns=score.turns,
                parts=score.parts,
                info={**score.info, "coefficient": factor, "calls": m},
            )
        )
    return scaled


def recipe(base: Recipe) -> Recipe:
    """Return ``base`` with its reward scaled by call efficiency; everything else stays as it is."""
    return vary(base, reward=partial(otc_reward, base=base.reward))


PAPER = Paper(
    number=6,
    slug="otc",
    title="OTC: Optimal Tool Calls via Reinforcement Learning",
    date="2025-04",
    url="https://arxiv.org/abs/2504.14870",
    pieces={"reward": otc_reward, "recipe": recipe},
    summary="Multiplies the outcome reward by how close the number of calls is to the fewest that solved the question.",
    reported=(
        "Qwen2.5-7B on NQ: exact match 0.446 with 1.04 calls, against 0.449 with 3.28 calls for PPO without the "
        "reward (public notes on the tables); up to 68.3 % fewer calls (abstract)."
    ),
)
