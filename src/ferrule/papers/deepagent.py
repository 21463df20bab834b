"""DeepAgent: A General Reasoning Agent with Scalable Toolsets (paper 36), October 2025.

https://arxiv.org/abs/2510.21618

One stream of thought in which the model searches for tools, calls them, and folds its history into three memories as it
sees fit. ToolPO trains it on simulated tools: success, which every token the model wrote is credited for, and the
quality of actions, which only the tokens of tool calls and of folds are.

Departures from the paper:

1. How a call is judged correct is not stated. Here a call counts when it is one of the task's reference calls, or,
   where a task has none, when it ran without an error; a reference call that failed still counts. The hook ``right``
   takes another rule.
2. The action reward is a sum over calls, so repeating a correct call pays again. Equal calls count once by default;
   ``repeats=True`` counts all.
3. The preference for folding needs the length of an episode without folds: the recipe estimates both lengths from the
   record (``folding_gain``), and the hook ``preference`` takes another rule. It is 0 where nothing was folded.
4. The clip range (0.2) is a choice.
5. The claim judges savings by pairs of seeds, every arm at the best of three learning rates.
6. Search, call and fold are calls in whatever form a model writes calls (then all three are labelled ``call`` and
   credited); ``ferrule.chat.in_stream`` writes them as the paper's marks. Calls inside ``<think>`` are never carried
   out, so the stream stands outside. A reply ends with its first action. A call whose closing mark is missing is read
   all the same unless the token limit cut it; the reference takes none from it.
7. Lengths are tokens, words only where a policy has no ids. All 50 actions are carried out (the reference makes 49),
   and folds are actions. A short result is never passed over.
8. The reference refuses every repeated call outside interactive worlds. Here calls that only read are refused until a
   changing call or a fold was made, in all worlds.
9. A fold reads what was written since the last one and the memories so far, not the whole episode, so that its context
   is bounded; the memories follow the task in its message. An unreadable memory stands as text, and that of tools is
   then counted from the record. ``fold_at`` folds without being asked; with 0, as published, only the model does.
10. Retrieval is BM25 or any encoder (``ferrule.tools.dense``); bge-large, the helper Qwen2.5-32B and the training mix
    are not included. The simulator reads the document, the call and the calls before it. How replies are sampled is
    the caller's choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ferrule.agents.in_stream import InStream
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
    "PAPER", "Right", "action_reward", "agent", "api_name", "calls_and_folds", "endpoint_name", "fold_preference",
    "folding_gain", "path_rate", "recipe", "right_call", "success_and_action", "toolpo",
]  # fmt: skip

_RESERVED = ("from", "class", "return", "false", "true", "id", "and")
Right: TypeAlias = Callable[[Task, Call, Observation], bool]


def fold_preference(direct: float | None, folded: float | None) -> float:
    """How much shorter an episode is with folds: ``(direct - folded) / (direct + folded)``, in -1 to 1; 0 if both are.

    Lengths are in tokens (or any unit, the same for both); a length that is not known (None) makes no preference.
    """
    if direct is None or folded is None:
        return 0.0
    return (direct - folded) / (direct + folded) if direct + folded else 0.0


def folding_gain(trajectory: Trajectory) -> float | None:
    """Return ``fold_preference`` of an episode by its record; None where it was never folded, or has no ids.

    Without folds its context would have held the first prompt and all that was written and shown in any segment (the
    prompts of later ones stand for what they fold); with folds the longest segment is what it took.
    """
    lengths, prompts, last = list[int](), list[int](), None
    for turn in trajectory.turns:
        if turn.parent is None or turn.parent != last:
            lengths.append(0)
            prompts.append(len(turn.given))
        lengths[-1] += len(turn.given) + len(turn.sampled)
        last = turn.id
    if len(lengths) < 2 or not sum(lengths):
        return None
    return fold_preference(sum(lengths) - sum(prompts[1:]), max(lengths))


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


calls_and_folds = partial(action_reward, preference=folding_gain)
"""The action reward of the paper: right calls, and how much shorter folds made the episode."""


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
    base: Recipe, *, action: Reward = calls_and_folds, spans: Sequence[str] = ("call", "fold"), num_generations: int = 8
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


def agent(**changes: Any) -> InStream:
    """Return the agent with the paper's limits: 50 actions, 3 folds, 10 tools a search, and 40,000 tokens."""
    return InStream(**{"actions": 50, "folds": 3, "found": 10, "longest": 40_000, **changes})


def path_rate(gold: Iterable[str], used: Iterable[str]) -> float:
    """Return the share of the gold tools that were used; 1 without any. The REST sets call 1 a success."""
    wanted = set(gold)
    return len(wanted & set(used)) / len(wanted) if wanted else 1.0


def api_name(text: str) -> str:
    """Return the name of an API in lower case, digits and underscores: ``2nd API!`` is ``get_2nd_api``."""
    name = re.sub(r"_+", "_", re.sub(r"\W", "_", text)).strip("_").lower()
    if name[:1].isdigit():
        name = f"get_{name}"
    return f"is_{name}" if name in _RESERVED else name


def endpoint_name(endpoint: str) -> str:
    """Return the name of a REST endpoint: ``GET /users/{id}`` is ``get_users_id``; ``rb_`` goes before non-letters."""
    name = re.sub(r"[^a-z0-9]+", "_", endpoint.lower()).rstrip("_")
    return name if name[:1].isalpha() else f"rb_{name}"


PAPER = Paper(
    number=36,
    slug="deepagent",
    title="DeepAgent: A General Reasoning Agent with Scalable Toolsets",
    date="2025-10",
    url="https://arxiv.org/abs/2510.21618",
    pieces={
        "agent": agent,
        "reward": success_and_action,
        "action_reward": action_reward,
        "preference": folding_gain,
        "credit": toolpo,
        "recipe": recipe,
        "metric": path_rate,
    },
    summary="Searches, calls and folds in one stream; credits calls and folds apart from success.",
    reported=(
        "QwQ-32B, average of the ablation: 48.1 %, without credit for calls 46.1 %, without training 44.3 %; "
        "ToolBench 63.0 to 69.0 % (paper text)."
    ),
)
