"""What an abstraction may not say, what both players are paid, which proposals are learned offline, and metrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ferrule.core.records import Reward, Score, Task, Trajectory
from ferrule.rewards.outcome import outcome
from ferrule.rewards.verify import same_number
from ferrule.tools.calculator import calculate

if TYPE_CHECKING:
    from ferrule.train.sample import Group

__all__ = [
    "PROBES", "Probe", "abstraction_reward", "accepted", "best_abstraction", "computes_answer", "hand_down", "hand_up",
    "leaks", "preference_pairs", "solved_by", "solver_reward", "states_answer", "with_abstraction",
]  # fmt: skip

Probe: TypeAlias = Callable[[str, Task], bool]

_SOLVE = "{problem}\n\n<abstraction>\n{abstraction}\n</abstraction>\nUse the abstraction to solve the problem."


# -------------------------------------------------------------------------------------------------------------- leaking


def states_answer(text: str, task: Task) -> bool:
    """Say whether the answer stands in a text as a word or number of its own."""
    wanted = [re.escape(str(gold).strip()) for gold in _golds(task)]
    return any(gold and re.search(rf"(?<![\w.]){gold}(?!\w|\.\d)", text, re.IGNORECASE) for gold in wanted)


def _golds(task: Task) -> Sequence[Any]:
    return task.answer if isinstance(task.answer, list | tuple) else (task.answer,)


_EXPRESSION = re.compile(r"(?<![\w.])[.\d(](?:[\d\s.()+*/%-]{0,200}[\d)])?(?!\w|\.\d)")


def computes_answer(text: str, task: Task) -> bool:
    """Say whether a number or an arithmetic expression in a text has the answer as its value (``1/2`` is ``50%``).

    Only answers that are numbers as a whole can be computed.
    """
    golds = [value for value in (_value(str(gold)) for gold in _golds(task)) if value is not None]
    if not golds:
        return False
    plain = _FRACTION.sub(r"(\1)/(\2)", text)
    found = [*_EXPRESSION.findall(plain), *_NUMBER.findall(plain)]
    values = (_value(one) for one in found)
    return any(value is not None and same_number(value, gold) for value in values for gold in golds)


_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_NUMBER = re.compile(r"(?<![\w.])(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?%?(?!\w)", re.IGNORECASE)


def _value(text: str) -> Fraction | None:
    """The value of a number or expression, None when a text is neither."""
    text = _FRACTION.sub(r"(\1)/(\2)", text.strip().strip("$")).replace(",", "").strip()
    share = text.endswith("%")
    try:
        value = Fraction(str(calculate(re.sub(r"(?<!\d)\.(?=\d)", "0.", text.removesuffix("%").strip()))))
    except (ValueError, OverflowError, ZeroDivisionError):
        return None
    return value / 100 if share else value


PROBES: tuple[Probe, ...] = (states_answer, computes_answer)
"""Checks of an abstraction for its problem's answer."""


def leaks(abstraction: str, task: Task, *, probes: Sequence[Probe] = PROBES) -> bool:
    """Say whether any probe finds the task's answer in the abstraction (never for a task without an answer)."""
    return task.answer is not None and any(probe(abstraction, task) for probe in probes)


# -------------------------------------------------------------------------------------------------------------- rewards


def abstraction_reward(outcomes: Sequence[float], *, leaking: bool = False, base: float = 0.0) -> float:
    """Mean success of the solutions that used an abstraction, less ``base``; 0 when it leaks or nobody used it.

    ``base`` is the success without any. Raises ``ValueError`` on outcomes that are not finite.
    """
    if not np.isfinite(outcomes).all():
        raise ValueError(f"outcomes must be finite: {list(outcomes)}")
    return 0.0 if leaking or not len(outcomes) else float(np.mean(outcomes)) - base


def solver_reward(
    task: Task, trajectories: Sequence[Trajectory], *, base: Reward = outcome, unaided: bool = False
) -> list[Score]:
    """Score solutions by ``base`` when they had an abstraction (``meta["abstraction"]``), else 0.

    The parts are those of the base and ``unaided``, 1 without an abstraction and else 0; those without one are compared
    among themselves. The setting ``unaided`` pays solutions without one as well.
    """
    out = []
    for trajectory, score in zip(trajectories, base(task, trajectories), strict=True):
        aided = bool(trajectory.task.meta.get("abstraction"))
        value = score.value if aided or unaided else 0.0
        group = score.group if aided or unaided else f"{score.group}/unaided"
        out.append(replace(score, value=value, group=group, parts={**score.parts, "unaided": float(not aided)}))
    return out


def hand_down(task: Task, trajectory: Trajectory) -> Task | None:
    """Return the task of solving with the abstraction that a proposer's episode answered, None without one."""
    text = (trajectory.answer or "").strip()
    if not text:
        return None
    prompt = _SOLVE.format(problem=task.prompt, abstraction=text)
    return replace(task, prompt=prompt, meta={**task.meta, "abstraction": text})


def hand_up(
    problem: Task, trajectories: Sequence[Trajectory], groups: Sequence[Group | None], *,
    probes: Sequence[Probe] = PROBES,
) -> list[Score]:  # fmt: skip
    """Score abstractions by the part ``outcome`` (else the value) of the solutions that used them, 0 for leaks.

    ``info`` holds ``leaking``.
    """
    out = []
    for trajectory, group in zip(trajectories, groups, strict=True):
        leaking = leaks(trajectory.answer or "", problem, probes=probes)
        right = [score.parts.get("outcome", score.value) for score in group.scores] if group is not None else []
        out.append(Score(abstraction_reward(right, leaking=leaking), info={"leaking": leaking}))
    return out


# ------------------------------------------------------------------------------------------ offline updates and metrics


def accepted(rewards: Sequence[float], base: float) -> list[int]:
    """Places of the abstractions that beat the success without any: rejection fine-tuning learns these."""
    return [i for i, reward in enumerate(rewards) if reward > base]


def preference_pairs(rewards: Sequence[float], *, margin: float = 0.1) -> list[tuple[int, int]]:
    """Pairs (better, worse) of the abstractions of one problem whose rewards differ, and by at least ``margin``."""
    places = range(len(rewards))
    apart = max(margin - 1e-12, 0.0)
    return [(i, j) for i in places for j in places if rewards[i] > rewards[j] and rewards[i] - rewards[j] >= apart]


def _some(outcomes: Sequence[Sequence[float]]) -> None:
    if not len(outcomes) or not all(len(row) for row in outcomes):
        raise ValueError("there must be an abstraction, and a solution for each of them")


def with_abstraction(outcomes: Sequence[Sequence[float]]) -> float:
    """Mean success over abstractions and their solutions (every abstraction weighs the same)."""
    _some(outcomes)
    return float(np.mean([np.mean(row) for row in outcomes]))


def best_abstraction(outcomes: Sequence[Sequence[float]]) -> float:
    """Success under the best of the proposed abstractions; it knows the answers, so compare it with nothing else."""
    _some(outcomes)
    return float(max(np.mean(row) for row in outcomes))


def solved_by(chances: Sequence[float], tries: int) -> float:
    """Chance that any solution is right with ``tries`` under each abstraction: ``1 - prod_j (1 - c_j)^tries``."""
    return 1.0 - float(np.prod([(1.0 - chance) ** tries for chance in chances]))
