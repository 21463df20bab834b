"""Reward plug-ins of the framework: maths, search, SQL, deep search, images, and the reward of tool turns.

Source: "VerlTool: Towards Holistic Agentic Reinforcement Learning with Tool Use" (24).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ferrule.core.records import Call, Reward, Score, Task, Tool, Trajectory, plain_text
from ferrule.rewards.outcome import outcome
from ferrule.tools.invoke import invoke

__all__ = [
    "by_tool", "deep_search_reward", "has_answer", "image_reward", "normal_form", "same_table", "search_reward",
    "sql_reward", "torl_reward", "turn_reward", "valid_calls", "with_turn_reward",
]  # fmt: skip

ERROR_WORDS = ("ERROR:", "Error:", "Traceback")
"""Words of an observation that mean failure, as they are written; ``timed out`` and ``exception`` in any case."""
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_SOLUTION = re.compile(r"<solution>(.*?)</solution>", re.DOTALL)
_THINK = re.compile(r"\s*<think>.*?</think>", re.DOTALL)

Table: TypeAlias = Sequence[Sequence[Any]]
Execute: TypeAlias = Callable[[Task, str], Table | None]
"""Runs a query of a task; None when it fails."""


def written(trajectory: Trajectory) -> str:
    """Return all that the model wrote, reply by reply."""
    return "\n".join(plain_text(turn.reply) for turn in trajectory.turns)


def valid_calls(trajectory: Trajectory) -> int:
    """Number of calls that a tool took up (whatever came of them); giving the answer by a call is none."""
    return sum(seen.counted for _, seen in trajectory.calls)


def has_answer(trajectory: Trajectory) -> bool:
    r"""Say whether the model wrote ``\boxed`` or ``final_answer(`` anywhere."""
    text = f"{written(trajectory)}\n{trajectory.answer or ''}"
    return "\\boxed" in text or "final_answer(" in text


def _right(score: Score) -> bool:
    return score.parts.get("outcome", score.value) > 0.5


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
        right, valid = _right(score), valid_calls(trajectory)
        value = 1.0 if right else -1.0
        value -= invalid_call * (valid < len(trajectory.calls)) + no_call * (valid == 0)
        value -= failed_call * any(seen.status in ("error", "timeout") for _, seen in trajectory.calls)
        scores.append(Score(value=value, parts={"outcome": float(right)}))
    return scores


def normal_form(text: str) -> str:
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
    wanted = {normal_form(str(gold)) for gold in golds}
    scores = []
    for trajectory in trajectories:
        text = written(trajectory)
        found = _ANSWER.findall(f"{task.prompt}\n{text}" if reference else text)
        right = bool(found) and normal_form(found[-1]) in wanted
        tags = max(text.count("<answer>"), text.count("</answer>"))
        value = (spam if tags > most_tags else 1.0) if right else 0.0
        scores.append(Score(value=value, parts={"outcome": float(right)}))
    return scores


def same_table(one: Table, other: Table) -> bool:
    """Say whether two tables hold the same rows, in any order, after some permutation of the columns."""
    if len(one) != len(other):
        return False
    widths = {len(row) for row in (*one, *other)}
    if len(widths) != 1:
        return not widths
    (width,) = widths
    ours, theirs = list(zip(*one, strict=True)), list(zip(*other, strict=True))

    def fits(chosen: tuple[int, ...]) -> bool:
        """Extend a choice of the other table's columns: the rows so far must agree as multisets."""
        rows = Counter(zip(*ours[: len(chosen)], strict=True))
        if chosen and rows != Counter(zip(*(theirs[i] for i in chosen), strict=True)):
            return False
        if len(chosen) == width:
            return True
        # Columns that are alike in every row are interchangeable: one of them stands for all.
        free = {theirs[i]: i for i in range(width) if i not in chosen}
        return any(fits((*chosen, i)) for i in free.values())

    return fits(())


def by_tool(build: Callable[[Task], Tool]) -> Execute:
    """Return an ``Execute`` that asks the SQL tool of a task (see ``ferrule.tools.sql.sql_tool``)."""

    def execute(task: Task, query: str) -> Table | None:
        tool = build(task)
        seen = invoke(tool, Call(tool.name, {"query": query}))
        rows: Table | None = seen.data["rows"] if seen.status == "ok" and isinstance(seen.data, dict) else None
        return rows

    return execute


def sql_reward(execute: Execute) -> Reward:
    """Return the SQL reward: -1 for a wrong form, else 1 when the result table equals that of ``task.answer``, else 0.

    The form is right when there is a ``<solution>`` and every reply with a call starts with ``<think>...</think>``;
    the last solution counts.
    """

    def reward(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        gold = execute(task, str(task.answer)) if trajectories else None
        return [_sql_score(execute, task, trajectory, gold) for trajectory in trajectories]

    return reward


def _sql_score(execute: Execute, task: Task, trajectory: Trajectory, gold: Table | None) -> Score:
    found = _SOLUTION.findall(written(trajectory))
    thought = all(_THINK.match(plain_text(turn.reply)) for turn in trajectory.turns if turn.reply.calls)
    if not found or not thought:
        return Score(value=-1.0, parts={"outcome": 0.0, "format": 0.0})
    table = execute(task, found[-1].strip())
    right = float(gold is not None and table is not None and same_table(table, gold))
    return Score(value=right, parts={"outcome": right, "format": 1.0})


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
        accuracy = float(_right(score))
        value = accuracy + bonus * (valid_calls(trajectory) > 0)
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
    counts = [valid_calls(trajectory) for trajectory in trajectories]
    callers = sum(count > 0 for count in counts) / max(len(counts), 1)
    curious = weight * max(0.0, share - callers)
    scores = []
    for count, score in zip(counts, base(task, trajectories), strict=True):
        accuracy = float(_right(score))
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
    valid = [seen for _, seen in trajectory.calls if seen.counted]
    if reference:
        good = sum(bool(seen.text.strip()) and not _failed(seen.text) for seen in valid)
    else:
        good = sum(seen.status == "ok" for seen in valid)
    return 0.3 * good / len(valid) + 0.05 * good if valid else 0.0


def with_turn_reward(
    task: Task, trajectories: Sequence[Trajectory], *, base: Reward = torl_reward, reference: bool = False
) -> list[Score]:
    """Add the parts that turn-level credit reads: ``turn``, the turn reward, and ``acted``, the first acting turn.

    ``acted`` is the index of the first turn with a valid call, -1 without one. The value is that of ``base``.
    """
    scores = []
    for trajectory, score in zip(trajectories, base(task, trajectories), strict=True):
        acted = (k for k, turn in enumerate(trajectory.turns) if any(seen.counted for seen in turn.observations))
        parts = {"turn": turn_reward(trajectory, reference=reference), "acted": float(next(acted, -1))}
        scores.append(replace(score, parts={**score.parts, **parts}))
    return scores
