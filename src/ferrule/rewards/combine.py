"""Several rewards as one, with every member kept as a named channel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from ferrule.core.flows import Reward
from ferrule.core.records import Score, Task, Trajectory

__all__ = ["weighted"]


def weighted(members: Mapping[str, tuple[Reward, float]]) -> Reward:
    """Return the reward ``value = sum_c weight_c * value_c`` with ``parts = {c: value_c}``.

    ``members`` maps a channel name to a reward and its weight, for example
    ``{"outcome": (outcome, 1.0), "format": (format_reward, 0.1)}``. Parts are unweighted, so that channel-wise credit
    can weigh them itself; per-turn scores are summed with the weights; ``info`` holds each member's parts and info.
    What a member drops is dropped, and what members set apart (``Score.group``) is set apart. Raises ``ValueError``
    without members, on a weight that is 0 or not finite, and when a member returns the wrong number of scores.
    """
    if not members:
        raise ValueError("weighted needs at least one member")
    for name, (_, weight) in members.items():
        if weight == 0 or not math.isfinite(weight):
            raise ValueError(
                f"weight of reward {name!r} is {weight}; leave it out, or give a finite weight other than 0"
            )

    def combined(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        columns: dict[str, Sequence[Score]] = {}
        for name, (reward, _) in members.items():
            columns[name] = reward(task, trajectories)
            if len(columns[name]) != len(trajectories):
                raise ValueError(
                    f"reward {name!r} gave {len(columns[name])} scores for {len(trajectories)} trajectories"
                )
        return [_sum({name: column[i] for name, column in columns.items()}) for i in range(len(trajectories))]

    def _sum(scores: dict[str, Score]) -> Score:
        turns = zip_longest(*([members[n][1] * t for t in s.turns] for n, s in scores.items()), fillvalue=0.0)
        return Score(
            value=math.fsum(members[name][1] * score.value for name, score in scores.items()),
            turns=tuple(math.fsum(column) for column in turns),
            parts={name: score.value for name, score in scores.items()},
            info={name: {"parts": dict(score.parts), **score.info} for name, score in scores.items()},
            group="/".join(score.group for score in scores.values() if score.group),
            drop=any(score.drop for score in scores.values()),
        )

    return combined
