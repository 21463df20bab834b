"""ToolRL: Reward is All Tool Learning Needs (paper 47), April 2025, https://arxiv.org/abs/2504.13958.

Imitating tool traces overfits; a reward that looks into the call does not. A turn with a known gold turn is scored for
its form (0 or 1) and for its calls (-3 to 3), where tool names, parameter names and parameter values each earn their
share. Reward scales may move during training, smoothly rather than in stages, and length earns nothing.

Departures from the paper:

1. Episodes of several turns are scored by ``toolrl_reward``: the gold turn is the whole sequence of reference calls
   (``golds``), pooled, and so are the calls made. The strict format of one turn's text stands in ``format_holds`` and
   ``turn_reward``; an episode has the right form (hook ``form``) when it ends with an answer, all calls could be read,
   and it calls exactly when the reference does. A call that could not be read counts as one of another tool, so that
   an episode which repairs it is not lost; in one turn's text it costs everything, as published.
2. Values are equal as in JSON, so 1 is not True; the release compares as Python does (``strict=False``).
3. Arguments may stand under ``parameters`` or ``arguments``; the release reads the first only.
   Calls that end an episode count where the reference has them, and are no calls elsewhere.
4. ``smooth`` keeps the least format reward at the 0 that is configured. The release ignores it and pays as little as
   -2 to -1 for a wrong form: ``reference=True``.
5. The format tolerates no further tag of its own kinds inside a block; what the gold turn thinks is not read. The
   target of the length reward stays where it is after its last step. Training from the instruct model, data and
   prompts are no part of this module.
6. The claim trains a table instead of a model, with thoughts of 8 to 512 words that have no effect on the call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Call, Score, Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.papers.toolrl.calls import correctness
from ferrule.papers.toolrl.scales import Scales, Schedule, dynamic_target, equal_max, fixed, smooth, two_stage
from ferrule.papers.toolrl.texts import UnreadableGold, calls_in, format_holds, gold_calls, length_score
from ferrule.rewards.matching import readable
from ferrule.studies.paper import Claim, Paper
from ferrule.worlds.experts import reference_calls

__all__ = [
    "PAPER",
    "Golds",
    "Scales",
    "calls_in",
    "claim",
    "correctness",
    "dynamic_target",
    "equal_max",
    "fixed",
    "format_holds",
    "length_score",
    "recipe",
    "smooth",
    "text_reward",
    "toolrl_reward",
    "turn_reward",
    "two_stage",
    "well_formed",
]

Golds = Callable[[Task], Sequence[Call]]


def _score(form: bool, share: float | None, scales: Scales, length: float | None = None) -> Score:
    """Put form, share of the calls' points (None: nothing to call) and length on their scales and add them."""
    low, high = scales.calls
    parts = {"format": scales.format[form], "calls": 0.0 if share is None else low + (high - low) * share}
    if length is not None:
        parts["length"] = length
    return Score(math.fsum(parts.values()), parts=parts, info={"share": share})


def _made(trajectory: Trajectory, golds: Sequence[Call]) -> list[Call]:
    """The calls of an episode, without those that ended it unless the reference ends so too."""
    wanted = {call.name for call in golds}
    pairs = [pair for turn in trajectory.turns for pair in turn.pairs]
    return [call for call, seen in pairs if seen is None or not seen.terminal or call.name in wanted]


def well_formed(trajectory: Trajectory, golds: Sequence[Call]) -> bool:
    """Say whether an episode ends with an answer, made no unreadable call, and calls exactly when there are golds."""
    calls = _made(trajectory, golds)
    return trajectory.answer is not None and all(map(readable, calls)) and bool(calls) == bool(golds)


def toolrl_reward(
    task: Task,
    trajectories: Sequence[Trajectory],
    step: int = 0,
    *,
    golds: Golds = reference_calls,
    form: Callable[[Trajectory, Sequence[Call]], bool] = well_formed,
    schedule: Schedule = fixed,
    **rules: Any,
) -> list[Score]:
    """Score episodes by form plus correctness of all their calls together, -3 to 4 by the ``fixed`` scales.

    ``golds(task)`` are the reference calls; without any the calls earn 0. ``schedule(step)`` sets the scales, and
    ``rules`` are those of ``correctness``. Parts are ``format`` and ``calls``. Source: ToolRL (47).
    """
    wanted, scales = list(golds(task)), schedule(step)
    out = []
    for trajectory in trajectories:
        share = correctness(_made(trajectory, wanted), wanted, **rules) if wanted else None
        out.append(_score(form(trajectory, wanted), share, scales))
    return out


def turn_reward(
    task: Task,
    trajectories: Sequence[Trajectory],
    step: int = 0,
    *,
    schedule: Schedule = fixed,
    target: Callable[[int], float] | None = None,
    **rules: Any,
) -> list[Score]:
    """Score the texts of single turns (``Trajectory.answer``) against the text of the gold turn (``Task.answer``).

    Form by ``format_holds``; calls that are missing or cannot be read all earn the least. With ``target``, the words
    of thought that earn a full point at a step, length is a third part. ``rules`` are those of ``correctness``.
    """
    try:
        texts = [trajectory.answer or "" for trajectory in trajectories]
        return [
            text_reward(text, str(task.answer or ""), step, schedule=schedule, target=target, **rules) for text in texts
        ]
    except UnreadableGold as error:
        raise ValueError(f"task {task.id!r}: {error}") from None


def text_reward(
    text: str,
    gold: str,
    step: int = 0,
    *,
    schedule: Schedule = fixed,
    target: Callable[[int], float] | None = None,
    **rules: Any,
) -> Score:
    """Score the text of one turn against the text of its gold turn, as ``turn_reward`` does.

    Raises ``ValueError`` when the calls of the gold turn cannot be read.
    """
    wanted, scales, made = gold_calls(gold), schedule(step), calls_in(text)
    share = (0.0 if made is None else correctness(made, wanted, **rules)) if wanted else None
    length = None if target is None else length_score(text, target(step))
    return _score(format_holds(text, gold), share, scales, length)


def recipe(
    base: Recipe,
    *,
    golds: Golds = reference_calls,
    form: Callable[[Trajectory, Sequence[Call]], bool] = well_formed,
    schedule: Schedule = fixed,
    **rules: Any,
) -> Recipe:
    """Return ``base`` with the reward by reference calls and plain group-relative credit, four samples and no KL.

    ``rules`` are those of ``correctness``; those that are none are refused.
    """
    from ferrule.objectives.surrogate import surrogate

    correctness((), (), **rules)
    return vary(
        base,
        reward=partial(toolrl_reward, golds=golds, form=form, schedule=schedule, **rules),
        credit=partial(group_relative, std="unbiased"),
        objective=surrogate,
        reference=False,
        samples=4,
    )


def claim(scale: str = "small", *, seeds: Sequence[int] = (0, 1, 2, 3, 4)) -> Claim:
    """Measure whether the fine reward learns a call in half the updates of the coarse one, and what length pays for."""
    from ferrule.papers.toolrl.experiment import conditions_of

    return conditions_of(scale, seeds)


PAPER = Paper(
    number=47,
    slug="toolrl",
    title="ToolRL: Reward is All Tool Learning Needs",
    date="2025-04",
    url="https://arxiv.org/abs/2504.13958",
    pieces={"reward": toolrl_reward, "turn_reward": turn_reward, "recipe": recipe},
    claim=claim,
    summary="Rewards form, and in each call the tool's name, the parameters' names and their values on their own.",
)
