"""VerlTool: Towards Holistic Agentic Reinforcement Learning with Tool Use (paper 24), August 2025.

https://arxiv.org/abs/2509.01055

Training with tools was one code base per task, with tools run in step with generation. VerlTool leaves the trainer
alone and puts two things beside it: a tool server with one request form for every tool, and a rollout in which every
trajectory goes at its own pace and is one list of tokens, the observations masked. Rewards are plug-ins that see the
text and the tool records. Here these are pieces: the turn loop with its budgets and reasons to stop
(``ferrule.agents.action``), turn-level credit (``ferrule.credit.acted``), and the rewards, of which those for queries
stand in ``ferrule.rewards.tables``. The server speaks its wire form in ``ferrule.serve``; the texts of its Python and
SQL tools are in ``ferrule.tools.verl_texts``.

Departures from the paper:

1. Tools are called through sessions, so a call is read by the codec of the model rather than by the server's tools in
   turn; the server face keeps the published routing.
2. Observations go into the conversation as messages that the renderer wraps (the paper's chat mode). The encoding of
   new text alone, without special tokens in the middle, is what every rollout here does.
3. The split of turn-level credit is a turn index, not a count of runs of equal mask values: two replies with nothing
   between them would be one run. The first valid call takes the place of the first observation with a result tag
   (``with_turn_reward(reference=True)`` looks for the tag).
4. Success of a call is its status. Whitening leaves groups without any difference at zero. The search reward reads
   the model's own text only. The deep search reward applies its format penalty. ``reference=True`` gives the published
   behaviour of each.
5. A result cache keyed by the request alone would answer a repeated call of a stateful tool wrongly; there is none.
6. The claim is a simulation of schedules: generation and tools only wait. What it shows is what waiting costs, not the
   speed of a model or a tool. Real drivers run it, and overheads are theirs.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ferrule.agents.action import ActionLoop, cut, finished, stop_reason
from ferrule.chat.tags import tag_counts
from ferrule.core.arrays import Signals
from ferrule.core.flows import Reward
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Observation, Score, Task, Trajectory
from ferrule.credit.acted import mt_grpo, mt_grpo_whitened
from ferrule.credit.group import group_relative
from ferrule.rewards.efficiency import call_cost
from ferrule.rewards.format import failed_calls, replies_text
from ferrule.rewards.outcome import is_right, outcome
from ferrule.rewards.tables import same_table, sql_reward
from ferrule.speed.schedules import asynchronous_seconds, lock_step_seconds
from ferrule.studies.paper import Paper
from ferrule.tools.verl_texts import python_code, sql_query, wrap_python

__all__ = [
    "PAPER",
    "carries_loss",
    "deep_search_reward",
    "exact_form",
    "has_answer",
    "image_reward",
    "maths_recipe",
    "recipe",
    "search_reward",
    "torl_reward",
    "turn_reward",
    "with_turn_reward",
    "without_rows",
]  # fmt: skip

ERROR_WORDS = ("ERROR:", "Error:", "Traceback")
"""Words of an observation that mean failure, as they are written; ``timed out`` and ``exception`` in any case."""
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def has_answer(trajectory: Trajectory) -> bool:
    r"""Say whether the model wrote ``\boxed`` or ``final_answer(`` anywhere."""
    text = f"{replies_text(trajectory)}\n{trajectory.answer or ''}"
    return "\\boxed" in text or "final_answer(" in text


def torl_reward(
    task: Task,
    trajectories: Sequence[Trajectory],
    *,
    base: Reward = outcome,
    invalid_call: float = 0.0,
    no_call: float = 0.0,
    failed_call: float = 0.0,
) -> list[Score]:
    """Maths reward: +1 right, -1 otherwise, less a penalty where any call was invalid, none was valid, or one failed.

    The published penalties are 0.25 each and off. The part ``outcome`` (0 or 1) is the accuracy used in validation.
    """
    scores = []
    for trajectory, score in zip(trajectories, base(task, trajectories), strict=True):
        right, valid = is_right(score), call_cost(trajectory)
        value = 1.0 if right else -1.0
        value -= invalid_call * (valid < len(trajectory.calls)) + no_call * (valid == 0)
        value -= failed_call * (failed_calls(trajectory) > 0)
        scores.append(Score(value=value, parts={"outcome": float(right)}))
    return scores


def exact_form(text: str) -> str:
    """Return an answer for exact matching: lower case, punctuation deleted, no articles, single blanks."""
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def search_reward(
    task: Task, trajectories: Sequence[Trajectory], *, most_tags: int = 10, spam: float = 0.25, reference: bool = False
) -> list[Score]:
    """Exact match of the last ``<answer>``: 1 or 0; ``spam`` when right with more than ``most_tags`` answer tags.

    A list as ``task.answer`` accepts any of its members. ``reference=True`` reads the prompt along with the reply, as
    published: an example answer inside the prompt then counts when the reply has none.
    """
    golds = task.answer if isinstance(task.answer, (list, tuple)) else (task.answer,)
    wanted = {exact_form(str(gold)) for gold in golds}
    scores = []
    for trajectory in trajectories:
        text = replies_text(trajectory)
        answers = _ANSWER.findall(f"{task.prompt}\n{text}" if reference else text)
        right = bool(answers) and exact_form(answers[-1]) in wanted
        tags = max(tag_counts(text, "answer"))
        value = (spam if tags > most_tags else 1.0) if right else 0.0
        scores.append(Score(value=value, parts={"outcome": float(right)}))
    return scores


def deep_search_reward(
    task: Task,
    trajectories: Sequence[Trajectory],
    *,
    base: Reward = outcome,
    bonus: float = 0.1,
    reference: bool = False,
) -> list[Score]:
    """Accuracy, plus ``bonus`` when any call was valid; -1 when the model gave no answer.

    ``reference=True`` drops the -1: the published code computes it and then overwrites it by the accuracy.
    """
    scores = []
    for trajectory, score in zip(trajectories, base(task, trajectories), strict=True):
        accuracy = float(is_right(score))
        value = accuracy + bonus * (call_cost(trajectory) > 0)
        if trajectory.answer is None and not reference:
            value = -1.0
        scores.append(Score(value=value, parts={"outcome": accuracy}))
    return scores


def image_reward(
    task: Task, trajectories: Sequence[Trajectory], *, base: Reward = outcome, share: float = 0.3, weight: float = 0.5
) -> list[Score]:
    """Accuracy, plus ``weight * max(0, share - group share of callers)`` for callers, plus ``0.05 min(1 - calls, 0)``.

    A caller made at least one valid call; the last term costs 0.05 for every call after the first.
    """
    counts = [call_cost(trajectory) for trajectory in trajectories]
    callers = sum(count > 0 for count in counts) / max(len(counts), 1)
    curious = weight * max(0.0, share - callers)
    scores = []
    for count, score in zip(counts, base(task, trajectories), strict=True):
        accuracy = float(is_right(score))
        value = accuracy + curious * (count > 0) + 0.05 * min(1 - count, 0)
        scores.append(Score(value=value, parts={"outcome": accuracy}))
    return scores


def _failed(text: str) -> bool:
    return any(word in text for word in ERROR_WORDS) or "timed out" in text.lower() or "exception" in text.lower()


def turn_reward(trajectory: Trajectory, *, reference: bool = False) -> float:
    """Reward of a trajectory's tool turns: ``0.3 successes / valid + 0.05 successes`` over its valid calls, 0 without.

    A call succeeded when its status is ``ok``. ``reference=True`` reads the text instead, as published: success is an
    observation that is not blank and holds no error word, so a program that prints "Error:" on purpose fails and one
    that prints nothing does too.
    """
    valid = [observation for _, observation in trajectory.calls if observation.counted]
    if reference:
        good = sum(bool(observation.text.strip()) and not _failed(observation.text) for observation in valid)
    else:
        good = sum(observation.status == "ok" for observation in valid)
    return 0.3 * good / len(valid) + 0.05 * good if valid else 0.0


def _counted(observation: Observation) -> bool:
    return observation.counted


def _tagged(observation: Observation) -> bool:
    return "<result>" in observation.text or "<output>" in observation.text


def with_turn_reward(
    task: Task, trajectories: Sequence[Trajectory], *, base: Reward = torl_reward, reference: bool = False
) -> list[Score]:
    """Add the parts that turn-level credit reads: ``turn``, the turn reward, and ``acted``, the first acting turn.

    ``acted`` is the index of the first turn with a valid call, -1 without one. The value is that of ``base``.
    ``reference=True`` takes the first turn with an observation that holds the tag ``<result>`` or ``<output>`` instead,
    as published, and reads successes off texts (see ``turn_reward``).
    """
    scores = []
    for trajectory, score in zip(trajectories, base(task, trajectories), strict=True):
        acts = [any(map(_tagged if reference else _counted, turn.observations)) for turn in trajectory.turns]
        acted = float(acts.index(True)) if any(acts) else -1.0
        parts = {"turn": turn_reward(trajectory, reference=reference), "acted": acted}
        scores.append(replace(score, parts={**score.parts, **parts}))
    return scores


def carries_loss(
    trajectories: Sequence[Trajectory], loop: ActionLoop, *, mask_overlong: bool = True, mask_void: bool = True
) -> list[bool]:
    """Say for every trajectory whether its tokens are trained on.

    ``mask_overlong`` leaves out those that ``loop`` ended before they were complete, ``mask_void`` those that
    made no valid call and wrote no answer either.
    """
    return [
        not (mask_overlong and not finished(stop_reason(t, loop)))
        and not (mask_void and call_cost(t) == 0 and not has_answer(t))
        for t in trajectories
    ]


def without_rows(signals: Signals, kept: Sequence[bool]) -> Signals:
    """Return ``signals`` with every token of the rows that are not ``kept`` marked as not the model's own."""
    if len(kept) != len(signals.turn_NT):
        raise ValueError(f"kept tells of {len(kept)} rows; the batch has {len(signals.turn_NT)}")
    return replace(signals, turn_NT=np.where(np.asarray(kept, dtype=bool)[:, None], signals.turn_NT, -1))


def recipe(base: Recipe) -> Recipe:
    """Return ``base`` with the turn reward beside its own and turn-level credit, clip 0.2, no KL."""
    from ferrule.objectives.surrogate import surrogate

    return vary(
        base,
        reward=partial(with_turn_reward, base=base.reward),
        credit=mt_grpo_whitened,
        objective=partial(surrogate, lo=0.2, hi=0.2),
        critic=None,
        reference=False,
    )


def maths_recipe(base: Recipe) -> Recipe:
    """Return ``base`` as the maths runs train: +1 or -1, group advantages over 16 samples, clip 0.2, no KL."""
    from ferrule.objectives.surrogate import surrogate

    return vary(
        base,
        reward=torl_reward,
        credit=partial(group_relative, std="unbiased"),
        objective=partial(surrogate, lo=0.2, hi=0.2),
        critic=None,
        reference=False,
        num_generations=16,
    )


PAPER = Paper(
    number=24,
    slug="verltool",
    title="VerlTool: Towards Holistic Agentic Reinforcement Learning with Tool Use",
    date="2025-08",
    url="https://arxiv.org/abs/2509.01055",
    pieces={
        "agent": ActionLoop,
        "stop_reason": stop_reason,
        "finished": finished,
        "cut": cut,
        "python_code": python_code,
        "wrap_python": wrap_python,
        "sql_query": sql_query,
        "torl_reward": torl_reward,
        "search_reward": search_reward,
        "sql_reward": sql_reward,
        "same_table": same_table,
        "deep_search_reward": deep_search_reward,
        "image_reward": image_reward,
        "turn_reward": turn_reward,
        "with_turn_reward": with_turn_reward,
        "mt_grpo": mt_grpo,
        "mt_grpo_whitened": mt_grpo_whitened,
        "carries_loss": carries_loss,
        "without_rows": without_rows,
        "lock_step_seconds": lock_step_seconds,
        "asynchronous_seconds": asynchronous_seconds,
        "recipe": recipe,
        "maths_recipe": maths_recipe,
    },
    summary="One form for every tool, one token list per trajectory, each at its own pace; turn-level credit.",
    reported=(
        "Rollouts of 2,048 episodes of a 1.5B model on four H100: 1.69 times as fast with one turn, 2.06 times "
        "with three (repository)."
    ),
)
