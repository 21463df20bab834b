"""CodeDance: executable visual reasoning with a balanced adaptive tool reward (paper 04), December 2025.

https://arxiv.org/abs/2512.17312

A model that reasons with code learns to call it everywhere when each success is paid, and forgets it when only answers
are. Here the pay of a successful call follows how hard the prompt proved within the group: high where nobody solved
it, below zero where everybody did. Beside the comparison of episodes, every turn whose code failed is blamed by itself.

Departures from the paper:

1. Difficulty is the group's mean base score, as in the released code; the text of the paper speaks of accuracy, which
   leaves out the weight of accuracy and the form penalty: ``difficulty_by="accuracy"``.
2. A call succeeded when the executor says so. The published rule (text that mentions an error or a timeout, and runs
   that print nothing, are failures as well) is ``reference=True``.
3. An episode without an answer, or with one of 1000 characters, has a form error, and so have replies whose tags break
   the published form (``tag_error``). Replies without any of these tags pass; with ``reference=True`` they do not.
4. Correctness comes from the base recipe's verifier instead of a judge model. What is still open: images and the tools
   that make them, the supervised data (weak-to-strong filter, atomic families), the loop of one call per turn with its
   limits, and an interpreter that goes back to its last good state when code fails.
5. A turn's own value is that of its worst call. Turns that end an episode without a call are final; a last turn that
   still calls is blamed like any other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ferrule.chat.answer import final_answer
from ferrule.chat.tags import balanced, tag_counts
from ferrule.core.arrays import FloatArray, Signals, apply, nearest, spread_turns
from ferrule.core.flows import Reward
from ferrule.core.marks import exempt
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Observation, Score, Task, Trajectory, Turn, plain_text
from ferrule.credit.group import group_relative
from ferrule.rewards.format import all_text
from ferrule.rewards.outcome import is_right, outcome
from ferrule.studies.paper import Paper

__all__ = [
    "FAMILIES",
    "PAPER",
    "Family",
    "balanced_reward",
    "difficulty",
    "recipe",
    "succeeded",
    "tag_error",
    "turn_credit",
    "turn_returns",
    "two_levels",
]


LONGEST_ANSWER = 1000
"""Characters of an answer that is too long."""
_TAGS = re.compile(r"</?(?:think|answer)>")


@dataclass(frozen=True)
class Family:
    """Weights of one kind of question: accuracy, form error, and calls in right and in wrong episodes."""

    accuracy: float
    form: float
    right: float
    wrong: float


FAMILIES: Mapping[str, Family] = {"default": Family(1.0, 0.2, 1.5, 0.5), "math": Family(1.2, 0.4, 2.0, 1.0)}
"""The published weights."""


def difficulty(mean: float, *, gamma: float = 4.0, delta: float = 0.2) -> float:
    """Pay of a call by the group's mean score: ``(1 + tanh(gamma (1/2 - mean))) / 2 - delta``."""
    return (1.0 + math.tanh(gamma * (0.5 - mean))) / 2.0 - delta


def succeeded(observation: Observation, *, reference: bool = False) -> bool:
    """Say whether a call worked: by its status, with ``reference`` also by what its text mentions."""
    if not reference:
        return observation.status == "ok"
    text = observation.text
    ran = observation.status in ("ok", "error")
    return ran and bool(text.strip()) and "Error" not in text and "timeout" not in text


def tag_error(text: str, *, family: str = "default") -> bool:
    """Say whether tags break the published form.

    ``default``: thoughts opened and closed unequally often, or not exactly one answer. ``math``: a call after the last
    thought was closed, or no answer. Raises ``ValueError`` on an unknown family.
    """
    _known(family)
    answers = tag_counts(text, "answer")
    if family == "math":
        late = re.search(r"<tool_call>|<code>", text.rpartition("</think>")[2]) is not None
        return late or not all(answers)
    return not balanced(text, "think") or answers != (1, 1)


def _known(family: str) -> Family:
    if family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}; {nearest(family, list(FAMILIES))}")
    return FAMILIES[family]


def _broken(trajectory: Trajectory, family: str, reference: bool) -> bool:
    """Judge the form of what the model wrote; an answer that a codec took out of its tags is put back into them."""
    if trajectory.answer is None:
        return True
    text = all_text(trajectory)
    untagged = bool(trajectory.turns) and "<answer>" not in plain_text(trajectory.turns[-1].reply)
    judged = reference or _TAGS.search(text) is not None
    return judged and tag_error(text + "<answer></answer>" * untagged, family=family)


def _counted(turn: Turn) -> list[Observation]:
    return [observation for observation in turn.observations if not observation.terminal]


def _component(trajectory: Trajectory, right: bool, weights: Family, reference: bool) -> float:
    calls = [observation for turn in trajectory.turns for observation in _counted(turn)]
    share = sum(succeeded(o, reference=reference) for o in calls) / len(calls) if calls else 0.0
    return share * (weights.right if right else weights.wrong)


def balanced_reward(
    task: Task,
    trajectories: Sequence[Trajectory],
    *,
    base: Reward = outcome,
    family: str = "default",
    difficulty_by: str = "base",
    gamma: float = 4.0,
    delta: float = 0.2,
    failure: float = -0.5,
    reference: bool = False,
) -> list[Score]:
    """Score accuracy, form and, by the group's difficulty ``d``, successful calls: ``w a - w_f e + d k s``.

    ``a`` is 1 for a right answer, ``e`` for a form error, ``s`` the share of calls that worked (0 without calls), ``k``
    the family's weight for right or wrong episodes. ``d`` is that of the group's mean ``w a - w_f e``, or with
    ``difficulty_by="accuracy"`` of its mean ``a``. ``turns`` holds ``failure`` for each turn in which a call failed.
    Parts: ``base``, ``tools`` (``k s``), ``outcome``, and ``closed``, 1 when the last turn makes no call. Raises
    ``ValueError`` on an unknown family or measure.
    """
    if difficulty_by not in ("base", "accuracy"):
        raise ValueError(f"unknown measure {difficulty_by!r}; {nearest(difficulty_by, ('base', 'accuracy'))}")
    weights, rows = _known(family), []
    for given, trajectory in zip(base(task, trajectories), trajectories, strict=True):
        long = len(final_answer(trajectory.answer or "")) >= LONGEST_ANSWER
        right = is_right(given) and not long
        plain = weights.accuracy * right - weights.form * (_broken(trajectory, family, reference) or long)
        rows.append((plain, right, _component(trajectory, right, weights, reference)))
    measured = [plain if difficulty_by == "base" else float(right) for plain, right, _ in rows]
    pay = difficulty(math.fsum(measured) / len(rows), gamma=gamma, delta=delta) if rows else 0.0
    scores = []
    for (plain, right, tools), trajectory in zip(rows, trajectories, strict=True):
        counted = [_counted(turn) for turn in trajectory.turns]
        turns = tuple(0.0 if all(succeeded(o, reference=reference) for o in turn) else failure for turn in counted)
        closed = float(not counted or not counted[-1])
        parts = {"base": plain, "tools": tools, "outcome": float(right), "closed": closed}
        scores.append(Score(plain + pay * tools, turns=turns, parts=parts, info={"difficulty": pay}))
    return scores


def turn_returns(rewards: Sequence[float], *, beta: float = 0.2) -> list[float]:
    """Discounted sums over later turns: ``g_k = r_k + beta g_(k+1)``."""
    returns: list[float] = []
    for reward in reversed(rewards):
        returns.append(reward + beta * (returns[-1] if returns else 0.0))
    return returns[::-1]


@exempt("independent")
def turn_credit(signals: Signals, *, beta: float = 0.2) -> FloatArray:
    """Give every turn the z-score of its return over all turns of the batch that are not final, 0 to final ones.

    The spread is the population's; returns that do not differ are kept as they are. A row's last turn is final when
    its part ``closed`` is 1 (without that part: always).
    """
    closed_N = np.ones(len(signals.turns_N))
    if "closed" in signals.channels:
        closed_N = signals.parts_CN[signals.channels.index("closed")]
    value_NK = np.zeros(signals.turn_reward_NK.shape)
    open_NK = np.zeros(value_NK.shape, dtype=bool)
    for n, (count, closed) in enumerate(zip(signals.turns_N, closed_N, strict=True)):
        rewards = signals.turn_reward_NK[n, : int(count) - int(closed > 0.5)] if count else np.zeros(0)
        value_NK[n, : len(rewards)] = turn_returns([float(r) for r in rewards], beta=beta)
        open_NK[n, : len(rewards)] = True
    pool = value_NK[open_NK]
    if pool.size and pool.std() > 1e-8:
        value_NK[open_NK] = (pool - pool.mean()) / pool.std()
    return spread_turns(value_NK, signals.turn_NT)


@exempt("independent")
def two_levels(signals: Signals, *, weight: float = 0.2, beta: float = 0.2, eps: float = 1e-6) -> FloatArray:
    """Add both levels: the group's z-score of an episode, and ``weight`` times ``turn_credit`` of its turn.

    The z-score's spread is unbiased.
    """
    compare: Any = partial(group_relative, std="unbiased", eps=eps)
    return apply(compare, signals) + weight * turn_credit(signals, beta=beta)


def recipe(base: Recipe, *, num_generations: int = 8, family: str = "default", reference: bool = False) -> Recipe:
    """Return ``base`` with calls paid by difficulty and blame per turn; no divergence term."""
    from ferrule.objectives.surrogate import surrogate

    return vary(
        base,
        reward=partial(balanced_reward, base=base.reward, family=family, reference=reference),
        credit=two_levels,
        objective=surrogate,
        num_generations=num_generations,
        reference=False,
    )


PAPER = Paper(
    number=4,
    slug="codedance",
    title="CodeDance: A Dynamic Tool-integrated MLLM for Executable Visual Reasoning",
    date="2025-12",
    url="https://arxiv.org/abs/2512.17312",
    pieces={"reward": balanced_reward, "credit": two_levels, "recipe": recipe},
    summary="Pays successful calls by how hard the prompt proved in the group, and blames turns whose code failed.",
    reported=(
        "Qwen2.5-VL-7B, average accuracy: 68.1 % with 1.38 turns, against 65.6 % with 2.26 turns under a fixed "
        "bonus for calls (ablation, as transcribed by others)."
    ),
)
