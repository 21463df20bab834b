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
   Calls that end an episode count where the reference has them, and are ignored elsewhere.
4. ``smooth`` keeps the least format reward at the 0 that is configured. The release ignores it and pays as little as
   -2 to -1 for a wrong form: ``reference=True``.
5. The format tolerates no further tag of its own kinds inside a block; what the gold turn thinks is not read. The
   target of the length reward stays where it is after its last step. Training from the instruct model, data and
   prompts are left out.
6. The claim trains a table instead of a model, with thoughts of 8 to 512 words that have no effect on the call.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from ferrule.chat.tags import calls_in, element, tag_counts
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Call, Score, Task, Trajectory
from ferrule.credit.group import group_relative
from ferrule.rewards.calls import correctness
from ferrule.rewards.matching import readable
from ferrule.studies.paper import Paper
from ferrule.worlds.experts import reference_calls

__all__ = [
    "PAPER", "Golds", "Scales", "Schedule", "UnreadableGold", "dynamic_target", "equal_max", "fixed", "format_holds",
    "gold_calls", "length_score", "recipe", "smooth", "text_reward", "toolrl_reward", "turn_reward", "two_stage",
    "well_formed",
]  # fmt: skip

Golds: TypeAlias = Callable[[Task], Sequence[Call]]
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_BLOCKS = {
    "think": r"<think>.*?</think>",
    "tool_call": r"<tool_call>\n.*?\n</tool_call>",
    "response": r"<response>.*?</response>",
}
"""Blocks of one turn's text, in their order."""


@dataclass(frozen=True)
class Scales:
    """Least and most that form and calls can earn."""

    format: tuple[float, float] = (0.0, 1.0)
    calls: tuple[float, float] = (-3.0, 3.0)


Schedule: TypeAlias = Callable[[int], Scales]


def fixed(step: int) -> Scales:
    """Form 0 to 1 and calls -3 to 3 at every step (the recommended scales)."""
    return Scales()


def equal_max(step: int) -> Scales:
    """Form and calls can earn the same: calls -1 to 1 at every step."""
    return Scales(calls=(-1.0, 1.0))


def two_stage(step: int, *, switch: int = 30) -> Scales:
    """Before ``switch`` calls count a third; from then on they count in full and form one half."""
    return Scales(calls=(-1.0, 1.0)) if step < switch else Scales(format=(0.0, 0.5))


def smooth(step: int, *, steps: int = 150, reference: bool = False) -> Scales:
    """Let the most for form fall from 2 to 1, and the range of calls grow from ±2 to ±3, over ``steps`` steps.

    The least for form is 0; with ``reference`` it is the release's ``min(-1, -2 + 2 s / steps)``. Raises
    ``ValueError`` unless ``steps`` is above 0.
    """
    if steps <= 0:
        raise ValueError(f"steps is {steps}; it must be above 0")
    done = min(step / steps, 1.0)
    return Scales(
        format=(min(-1.0, -2.0 + 2.0 * done) if reference else 0.0, 2.0 - done), calls=(-2.0 - done, 2.0 + done)
    )


def dynamic_target(step: int, *, first: float = 384.0, last: float = 640.0, steps: int = 105) -> float:
    """Words of thought that earn the whole length reward, rising from ``first`` to ``last`` over ``steps`` steps."""
    return first + (last - first) * min(step / steps, 1.0)


def format_holds(text: str, gold: str) -> bool:
    """Say whether ``text`` consists of a thought and the blocks that ``gold`` has, calls first, a newline between.

    Each block stands once and nothing stands around them; call tags have lines of their own.
    """
    acts = _THOUGHT.sub("", gold, count=1)
    wanted = ["think", *(tag for tag in ("tool_call", "response") if f"<{tag}>" in acts)]
    once = all(tag_counts(text, tag) == (tag in wanted, tag in wanted) for tag in _BLOCKS)
    return once and re.fullmatch("\n".join(_BLOCKS[tag] for tag in wanted), text, re.DOTALL) is not None


class UnreadableGold(ValueError):
    """A gold turn has call tags, and what stands in them is not a call."""


def gold_calls(gold: str) -> list[Call]:
    """Return the calls of a gold turn behind its thought, [] when it has no call tags.

    Calls without parameters may leave the key out. Raises ``UnreadableGold`` when they cannot be read.
    """
    acts = _THOUGHT.sub("", gold, count=1)
    if "<tool_call>" not in acts:
        return []
    calls = calls_in(acts, bare=True)
    if calls is None:
        raise UnreadableGold("the calls of the gold turn cannot be read; write one JSON object a line")
    return calls


def length_score(text: str, target: float = 512.0) -> float:
    """Reward for words of thought: ``min(1, words / target)`` to two digits; ``ValueError`` on no target above 0."""
    if not target > 0:
        raise ValueError(f"the target is {target} words; it must be above 0")
    thought = element(text, "think")
    return 0.0 if thought is None else min(1.0, round(len(thought.split()) / target, 2))


def _score(form: bool, share: float | None, scales: Scales, length: float | None = None) -> Score:
    """Put form, share of the calls' points (None: nothing to call) and length on their scales and add them."""
    low, high = scales.calls
    parts = {"format": scales.format[form], "calls": 0.0 if share is None else low + (high - low) * share}
    if length is not None:
        parts["length"] = length
    return Score(math.fsum(parts.values()), parts=parts, info={"share": share})


def _countable(trajectory: Trajectory, golds: Sequence[Call]) -> list[Call]:
    """The calls of an episode, without those that ended it unless the reference ends so too."""
    wanted = {call.name for call in golds}
    pairs = [pair for turn in trajectory.turns for pair in turn.pairs]
    return [call for call, o in pairs if o is None or not o.terminal or call.name in wanted]


def well_formed(trajectory: Trajectory, golds: Sequence[Call]) -> bool:
    """Say whether an episode ends with an answer, made no unreadable call, and calls exactly when there are golds."""
    calls = _countable(trajectory, golds)
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
    ``rules`` are those of ``rewards.calls.correctness``. Parts are ``format`` and ``calls``. Source: ToolRL (47).
    """
    wanted, scales = list(golds(task)), schedule(step)
    scores = []
    for trajectory in trajectories:
        share = correctness(_countable(trajectory, wanted), wanted, **rules) if wanted else None
        scores.append(_score(form(trajectory, wanted), share, scales))
    return scores


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
    wanted, scales, calls = gold_calls(gold), schedule(step), calls_in(text)
    share = (0.0 if calls is None else correctness(calls, wanted, **rules)) if wanted else None
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

    ``rules`` are those of ``rewards.calls.correctness``; unknown ones are refused.
    """
    from ferrule.objectives.surrogate import surrogate

    correctness((), (), **rules)
    return vary(
        base,
        reward=partial(toolrl_reward, golds=golds, form=form, schedule=schedule, **rules),
        credit=partial(group_relative, std="unbiased"),
        objective=surrogate,
        reference=False,
        num_generations=4,
    )


PAPER = Paper(
    number=47,
    slug="toolrl",
    title="ToolRL: Reward is All Tool Learning Needs",
    date="2025-04",
    url="https://arxiv.org/abs/2504.13958",
    pieces={"reward": toolrl_reward, "turn_reward": turn_reward, "recipe": recipe},
    summary="Rewards form, and in each call the tool's name, the parameters' names and their values on their own.",
    reported=(
        "BFCL V3, Qwen2.5-7B: 58.38 %, untrained 41.97 %; 15 % over supervised fine-tuning (abstract, and notes "
        "on the paper)."
    ),
)
