"""What CodeDance pays: accuracy, form, and successful calls by how hard the group found the prompt."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ferrule.chat.answer import final_answer
from ferrule.core.arrays import nearest
from ferrule.core.records import Observation, Reward, Score, Task, Trajectory, Turn, plain_text
from ferrule.rewards.format import all_text
from ferrule.rewards.outcome import outcome

__all__ = ["FAMILIES", "LONGEST_ANSWER", "Family", "balanced_reward", "difficulty", "succeeded", "tag_error"]


LONGEST_ANSWER = 1000


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
    count = {tag: text.count(tag) for tag in ("<think>", "</think>", "<answer>", "</answer>")}
    if family == "math":
        late = re.search(r"<tool_call>|<code>", text.rpartition("</think>")[2]) is not None
        return late or not count["<answer>"] or not count["</answer>"]
    return count["<think>"] != count["</think>"] or not count["<answer>"] == count["</answer>"] == 1


def _known(family: str) -> Family:
    if family not in FAMILIES:
        raise ValueError(f"no family {family!r}; {nearest(family, list(FAMILIES))}")
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
        raise ValueError(f"no measure {difficulty_by!r}; {nearest(difficulty_by, ('base', 'accuracy'))}")
    weights, rows = _known(family), []
    for given, trajectory in zip(base(task, trajectories), trajectories, strict=True):
        long = len(final_answer(trajectory.answer or "")) >= LONGEST_ANSWER
        right = given.parts.get("outcome", given.value) > 0.5 and not long
        plain = weights.accuracy * right - weights.form * (_broken(trajectory, family, reference) or long)
        rows.append((plain, right, _component(trajectory, right, weights, reference)))
    measured = [plain if difficulty_by == "base" else float(right) for plain, right, _ in rows]
    pay = difficulty(math.fsum(measured) / len(rows), gamma=gamma, delta=delta) if rows else 0.0
    scores = []
    for (plain, right, tools), trajectory in zip(rows, trajectories, strict=True):
        seen = [_counted(turn) for turn in trajectory.turns]
        turns = tuple(0.0 if all(succeeded(o, reference=reference) for o in own) else failure for own in seen)
        closed = float(not seen or not seen[-1])
        parts = {"base": plain, "tools": tools, "outcome": float(right), "closed": closed}
        scores.append(Score(plain + pay * tools, turns=turns, parts=parts, info={"difficulty": pay}))
    return scores
