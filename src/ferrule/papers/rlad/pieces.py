"""What an abstraction may not say, what both players are paid, which proposals are learned offline, and metrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ferrule.core.records import Reward, Score, Task, Trajectory
from ferrule.rewards.outcome import outcome
from ferrule.rewards.verify import verify
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


_EXPRESSION = re.compile(r"(?<![\w.])[\d(](?:[\d\s.()+*/%-]{0,200}[\d)])?(?!\w|\.\d)")


def computes_answer(text: str, task: Task) -> bool:
    """Say whether an arithmetic expression in a text has the answer as its value."""
    for found in _EXPRESSION.findall(text):
        try:
            value = str(calculate(found))
            if any(verify("numeric", value, gold) > 0 for gold in _golds(task)):
                return True
        except ValueError:  # no expression, or an answer that is no number
            continue
    return False


PROBES: tuple[Probe, ...] = (states_answer, computes_answer)
"""Checks of an abstraction for its problem's answer."""


def leaks(abstraction: str, task: Task, *, probes: Sequence[Probe] = PROBES) -> bool:
    """Say whether any probe finds the task's answer in the abstraction (never for a task without an answer)."""
    return task.answer is not None and any(probe(abstraction, task) for probe in probes)


# -------------------------------------------------------------------------------------------------------------- rewards


def abstraction_reward(outcomes: Sequence[float], *, leaking: bool = False) -> float:
    """Mean success of the solutions that used an abstraction; 0 when it leaks or nobody used it."""
    return 0.0 if leaking or not len(outcomes) else float(np.mean(outcomes))


def solver_reward(
    task: Task, trajectories: Sequence[Trajectory], *, base: Reward = outcome, unaided: bool = False
) -> list[Score]:
    """Score solutions by ``base`` when they had an abstraction (``meta["abstraction"]``), else 0.

    The parts are those of the base and ``unaided``, 1 without an abstraction and else 0. The setting ``unaided`` pays
    solutions without one as well.
    """
    out = []
    for trajectory, score in zip(trajectories, base(task, trajectories), strict=True):
        aided = bool(trajectory.task.meta.get("abstraction"))
        value = score.value if aided or unaided else 0.0
        out.append(replace(score, value=value, parts={**score.parts, "unaided": float(not aided)}))
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
    """Pairs (better, worse) of the abstractions of one problem whose rewards differ by at least ``margin``."""
    places = range(len(rewards))
    return [(i, j) for i in places for j in places if i != j and rewards[i] - rewards[j] >= margin - 1e-12]


def with_abstraction(outcomes: Sequence[Sequence[float]]) -> float:
    """Mean success over abstractions and their solutions (every abstraction weighs the same)."""
    return float(np.mean([np.mean(row) for row in outcomes]))


def best_abstraction(outcomes: Sequence[Sequence[float]]) -> float:
    """Success under the best of the proposed abstractions; it knows the answers, so compare it with nothing else."""
    return float(max(np.mean(row) for row in outcomes))


def solved_by(chances: Sequence[float], tries: int) -> float:
    """Chance that any solution is right with ``tries`` under each abstraction: ``1 - prod_j (1 - c_j)^tries``."""
    return 1.0 - float(np.prod([(1.0 - chance) ** tries for chance in chances]))
