"""ToolPO of DeepAgent: A General Reasoning Agent with Scalable Toolsets (paper 36), October 2025.

https://arxiv.org/abs/2510.21618

One final reward says little about which of many tool calls was a good one. ToolPO compares two rewards within a group:
success, which every token the model wrote gets, and the quality of actions, which only the tokens of tool calls and of
context folds get. This module is the credit part.

Departures from the paper:

1. How a call is judged correct is not stated. Here a call counts when it is one of the task's reference calls, or,
   where a task has none, when it ran without an error; a reference call that failed still counts. The hook ``right``
   takes another rule.
2. The action reward is a sum over calls, so repeating a correct call pays again. Equal calls count once by default;
   ``repeats=True`` counts all.
3. The preference for folding needs the length of an episode without folds, which is not recorded: the hook
   ``preference`` provides it, and it is 0 without one.
4. The clip range (0.2) is a choice.
5. The claim judges savings against the median of the arm that sums its rewards, as the published direction is worded;
   judged by pairs of seeds, the same measurements are undecided (0.29 [-0.20, 0.78]). Only the credit rule is
   measured, not the folding of contexts.
6. What is still open is the agent: searching for tools, calling them and folding the context within one stream of
   thought, its three memories, the helper model that condenses results, and simulated tools to train with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np

from ferrule.core.arrays import FloatArray, Signals, apply
from ferrule.core.flows import Reward
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Call, Observation, Score, Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.credit.spans import check_labels, within
from ferrule.rewards.matching import call_key, readable
from ferrule.rewards.outcome import outcome
from ferrule.studies.paper import Paper
from ferrule.worlds.experts import reference_calls

__all__ = [
    "PAPER", "Right", "action_reward", "fold_preference", "recipe", "right_call", "success_and_action", "toolpo",
]  # fmt: skip

Right: TypeAlias = Callable[[Task, Call, Observation], bool]


def fold_preference(direct: float | None, folded: float | None) -> float:
    """How much shorter an episode is with folds: ``(direct - folded) / (direct + folded)``, in -1 to 1; 0 if both are.

    Lengths are in tokens (or any unit, the same for both); a length that is not known (None) makes no preference.
    """
    if direct is None or folded is None:
        return 0.0
    return (direct - folded) / (direct + folded) if direct + folded else 0.0


def right_call(task: Task, call: Call, observation: Observation) -> bool:
    """Judge one call: among the task's reference calls, or, where it has none, run without an error."""
    try:
        wanted = {call_key(gold) for gold in reference_calls(task)}
    except ValueError:
        return observation.status == "ok"
    return observation.executed and readable(call) and call_key(call) in wanted


def action_reward(
    task: Task,
    trajectories: Sequence[Trajectory],
    *,
    right: Right = right_call,
    repeats: bool = False,
    calls: float = 1.0,
    preference: Callable[[Trajectory], float | None] | None = None,
    folds: float = 1.0,
) -> list[Score]:
    """Score the actions: ``calls * (number of right calls) + folds * preference(trajectory)``.

    Equal calls count once unless ``repeats``; without a ``preference`` (or where it is None) the second term is 0.
    """
    scores = []
    for trajectory in trajectories:
        keys = [call_key(call) for call, observation in trajectory.calls if right(task, call, observation)]
        count = len(keys) if repeats else len(set(keys))
        preferred = (preference(trajectory) if preference else None) or 0.0
        scores.append(Score(calls * count + folds * preferred))
    return scores


def success_and_action(
    task: Task, trajectories: Sequence[Trajectory], *, base: Reward = outcome, action: Reward = action_reward
) -> list[Score]:
    """Score success by ``base`` and actions by ``action``; the value is success, the parts hold both."""
    return [
        replace(score, parts={**score.parts, "success": score.value, "action": actions.value})
        for score, actions in zip(base(task, trajectories), action(task, trajectories), strict=True)
    ]


def toolpo(signals: Signals, *, spans: Sequence[str] = ("call", "fold")) -> FloatArray:
    """Give every token the success advantage, and those inside ``spans`` of these labels the action advantage on top.

    ``A = (R_success - mean) + M (R_action - mean)``, means over the group, nothing divided by a spread. Reads the
    reward channels ``success`` and ``action``. Raises ``ValueError`` where one is absent, and on invalid spans.
    Source: "DeepAgent" (36), ToolPO.
    """
    check_labels(spans)

    def centred(name: str) -> FloatArray:
        if name not in signals.channels:
            raise ValueError(f"toolpo reads the reward channel {name!r}, which is absent; use success_and_action")
        return apply(group_relative, replace(signals, reward_N=signals.parts_CN[signals.channels.index(name)]))

    return np.asarray(centred("success") + within(signals, *spans) * centred("action"), dtype=np.float64)


def recipe(
    base: Recipe, *, action: Reward = action_reward, spans: Sequence[str] = ("call", "fold"), num_generations: int = 8
) -> Recipe:
    """Return ``base`` with an action channel that only tokens of calls and folds are credited for."""
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    check_labels(spans)
    return vary(
        base,
        reward=partial(success_and_action, base=base.reward, action=action),
        credit=partial(toolpo, spans=tuple(spans)),
        objective=surrogate,
        reduce=token_mean,
        num_generations=num_generations,
        reference=False,
    )


PAPER = Paper(
    number=36,
    slug="deepagent",
    title="DeepAgent: A General Reasoning Agent with Scalable Toolsets",
    date="2025-10",
    url="https://arxiv.org/abs/2510.21618",
    pieces={"reward": success_and_action, "action_reward": action_reward, "credit": toolpo, "recipe": recipe},
    summary="Credits tool calls and folds, and nothing else, for the quality of actions, on top of success.",
)
