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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray, apply, pack
from ferrule.core.paper import Claim, Paper
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Call, Message, Observation, Reward, Score, Task, Trajectory, Turn
from ferrule.credit.group import group_relative
from ferrule.online.tabular import softmax
from ferrule.online.trials import at_least, conclude, describe
from ferrule.rewards.efficiency import Cost, call_cost, calls_per_success, productivity, unit_cost
from ferrule.rewards.outcome import outcome

__all__ = [
    "PAPER",
    "BestCalls",
    "claim",
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
    out = []
    for m, score in zip(costs, scores, strict=True):
        factor = 1.0
        if best is not None and correct(score) and score.value > 0:
            factor = alpha * (coefficient_group(m, best, c=c) if grouped else coefficient_alone(m, c=c))
        out.append(
            Score(
                value=factor * score.value,
                turns=score.turns,
                parts=score.parts,
                info={**score.info, "coefficient": factor, "calls": m},
            )
        )
    return out


def recipe(base: Recipe) -> Recipe:
    """Return ``base`` with its reward scaled by call efficiency; everything else stays as it is."""
    return vary(base, reward=partial(otc_reward, base=base.reward))


# ------------------------------------------------------------------------------------------------------------ the claim

MOST = 6
KINDS: Mapping[str, tuple[float, ...]] = {
    "easy": (0.95,) * (MOST + 1),
    "hard": (0.05, 0.25, 0.90, 0.92, 0.92, 0.92, 0.92),
    "unsolvable": (0.0,) * (MOST + 1),
}
"""Chance of a right answer after 0 to 6 calls, for each kind of question of the claim."""


def additive_reward(
    task: Task, trajectories: Sequence[Trajectory], *, base: Reward = outcome, weight: float = 0.5, c: float = 4.0
) -> list[Score]:
    """Control: add the efficiency instead of multiplying, ``r0 + weight * coefficient_alone(m)``; frugal errors pay."""
    return [
        Score(value=score.value + weight * coefficient_alone(call_cost(trajectory), c=c), parts=score.parts)
        for trajectory, score in zip(trajectories, base(task, trajectories), strict=True)
    ]


def _played(task: Task, calls: int, right: bool, logp: float) -> Trajectory:
    """Record an episode of one sampled decision: how many calls to make before answering."""
    made = tuple(Call("lookup", id=f"call_{i}") for i in range(calls))
    reply = Message("assistant", calls=made)
    observations = tuple(Observation("found") for _ in made)
    turn = Turn(0, None, (), (calls,), (logp,), reply, observations=observations)
    return Trajectory(task, (turn,), answer="right" if right else "wrong")


def train_table(
    *, reward: Reward, seed: int, steps: int = 400, samples: int = 8, learning_rate: float = 0.5, spread: float = 2.0
) -> FloatArray:
    """Train a softmax over 0 to 6 calls per kind of question by GRPO and return its probabilities ``[kind, calls]``.

    The start is a bell of standard deviation ``spread`` around 4 calls, cut off at the ends. Every step draws one
    group of ``samples`` episodes per kind, scores them with ``reward``, and takes one gradient step on the clipped
    surrogate with group-relative advantages (unbiased std). Needs torch.
    """
    import torch

    from ferrule.objectives.reduce import token_mean, totals
    from ferrule.objectives.surrogate import surrogate

    rng = np.random.default_rng(seed)
    tasks = [Task(id=kind, prompt=kind, answer="right") for kind in KINDS]
    first = -0.5 * ((np.arange(MOST + 1) - 4) / spread) ** 2.0
    logits = torch.tensor(np.tile(first, (len(tasks), 1)), requires_grad=True)
    rows = torch.arange(len(tasks)).repeat_interleave(samples)
    for _ in range(steps):
        chance = softmax(logits.detach().numpy())
        trajectories: list[Trajectory] = []
        scores: list[Score] = []
        for k, task in enumerate(tasks):
            drawn = rng.choice(MOST + 1, size=samples, p=chance[k])
            right = rng.random(samples) < np.asarray(KINDS[task.id])[drawn]
            group = [_played(task, int(m), bool(r), math.log(chance[k, m])) for m, r in zip(drawn, right, strict=True)]
            trajectories += group
            scores += reward(task, group)
        signals = pack(trajectories, scores, rows.tolist())
        adv_NT = torch.from_numpy(apply(partial(group_relative, std="unbiased"), signals))
        turn_NT, old_NT = torch.from_numpy(signals.turn_NT), torch.from_numpy(signals.logp_NT)
        logp_NT = logits.log_softmax(-1)[rows].gather(1, torch.from_numpy(signals.ids_NT))
        loss = token_mean(surrogate(logp_NT, old_NT, adv_NT, turn_NT), turn_NT, totals(turn_NT))
        (slope,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= learning_rate * len(tasks) * slope
    return softmax(logits.detach().numpy())


def measure(chance: FloatArray) -> dict[str, float]:
    """Expected accuracy and calls of a trained table: per kind, and over the solvable kinds together."""
    calls = chance @ np.arange(MOST + 1)
    right = [float(row @ np.asarray(KINDS[kind])) for kind, row in zip(KINDS, chance, strict=True)]
    out = {f"calls_{kind}": float(calls[k]) for k, kind in enumerate(KINDS)}
    out |= {f"accuracy_{kind}": right[k] for k, kind in enumerate(KINDS)}
    out["accuracy"] = float(np.mean(right[:2]))
    out["calls"] = float(np.mean(calls[:2]))
    out["calls_per_solved"] = calls_per_success(right[:2], calls[:2].tolist())
    out["productivity"] = productivity(right[:2], calls[:2].tolist())
    return out


ARMS: Mapping[str, Mapping[str, Any]] = {
    "grpo": {"reward": outcome},
    "otc": {"reward": otc_reward},
    "additive": {"reward": additive_reward},
    "otc_narrow": {"reward": otc_reward, "spread": 1.0},
}
"""Arms of the claim: settings of ``train_table``."""


def claim(scale: str = "small", *, seeds: Sequence[int] = (0, 1, 2, 3, 4)) -> Claim:
    """Measure whether OTC spends fewer calls per solved question than plain GRPO at equal success.

    Held when all of these hold by their 95 % intervals: calls per solved question fall by at least 40 %; accuracy
    falls by at most 2 points, overall and on hard questions; hard questions settle within half a call of their
    minimum of 2; the additive control cuts calls by at least one more on questions it never solves. ``scale`` is
    ``"small"`` (400 steps) or ``"tiny"`` (40, to try the machinery).
    """
    steps = {"small": 400, "tiny": 40}
    if scale not in steps:
        raise ValueError(f"scale is {scale!r}; known: {', '.join(sorted(steps))}")
    measured = {
        arm: [measure(train_table(seed=seed, steps=steps[scale], **settings)) for seed in seeds]
        for arm, settings in ARMS.items()
    }
    arms = {arm: {name: [row[name] for row in rows] for name in rows[0]} for arm, rows in measured.items()}
    paired = list(zip(measured["grpo"], measured["otc"], measured["additive"], strict=True))
    conditions = [
        at_least(
            "relative fall in calls per solved question",
            [1 - otc["calls_per_solved"] / plain["calls_per_solved"] for plain, otc, _ in paired],
            0.40,
        ),
        at_least("accuracy, OTC minus GRPO", [otc["accuracy"] - plain["accuracy"] for plain, otc, _ in paired], -0.02),
        at_least(
            "accuracy on hard questions, OTC minus GRPO",
            [otc["accuracy_hard"] - plain["accuracy_hard"] for plain, otc, _ in paired],
            -0.02,
        ),
        at_least(
            "hard questions: half a call less the distance from the minimum of 2",
            [0.5 - abs(otc["calls_hard"] - 2) for _, otc, _ in paired],
            0.0,
        ),
        at_least(
            "calls on unsolvable questions, OTC minus additive control",
            [otc["calls_unsolvable"] - added["calls_unsolvable"] for _, otc, added in paired],
            1.0,
        ),
    ]
    setup: dict[str, Any] = {
        "steps": steps[scale],
        "samples": 8,
        "kinds": {kind: list(row) for kind, row in KINDS.items()},
        "conditions": [condition.as_dict() for condition in conditions],
    }
    return Claim(
        paper="otc",
        statement="Scaling the reward by call efficiency cuts calls per solved question at equal success.",
        measured=conditions[0].name,
        arms=arms,
        effect=conditions[0].effect,
        interval=conditions[0].interval,
        threshold=conditions[0].threshold,
        falsifier="Hard-question accuracy falls by more than 2 points, or calls stop falling below plain GRPO.",
        verdict=conclude(conditions),
        seeds=tuple(seeds),
        scale=scale,
        notes=tuple(describe(condition) for condition in conditions),
        setup=setup,
    )


PAPER = Paper(
    number=6,
    slug="otc",
    title="OTC: Optimal Tool Calls via Reinforcement Learning",
    date="2025-04",
    url="https://arxiv.org/abs/2504.14870",
    pieces={"reward": otc_reward, "recipe": recipe},
    claim=claim,
    summary="Multiplies the outcome reward by how close the number of calls is to the fewest that solved the question.",
)
