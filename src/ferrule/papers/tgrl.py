"""TGRL: Can Tool-Integrated Reinforcement Learning Generalize Across Diverse Domains? (paper 10), October 2025.

https://arxiv.org/abs/2510.11184 (the objective and the group filter are those of its second version)

A model that learns to use a code interpreter on mathematics only should carry the habit to other domains if nothing of
the domain is in the interface. Every tool is called alike, and finishing is a tool call too: an ``answer`` tool with
the answer as argument. The reward adds two levels, right or wrong and well-formed or not; groups are centred and not
scaled, the loss is divided by a constant, and groups without spread are replaced.

Departures from the paper:

1. Which condition gives which level is a reconstruction that yields the published values -2 to 2: -1 or 1 for the
   answer; 1, 0 or -1 for a clean episode, one with calls that could not be read, and one without an answer call or with
   text outside tags.
2. Text counts as outside tags when it is neither a thought nor a call; result blocks that the model wrote itself are
   such text. The codec of the policy decides how tags look.
3. Calls made in one turn together with ``answer`` are all run before the episode ends.
4. The constant is ``longest`` tokens times the rows of the batch. Group size (8) and clip (0.2, 0.28) are not known
   and taken as usual; the rate is that of the base.
5. ``answer_tool`` takes the answer with or without a box around it (the last box
   counts). It is put into the world by its user (``Toolbox``
   or ``UserWorld``); worlds with an ending tool of their own need none.
6. The claim trains a small network over features of the state, which is shared by three toy domains, instead of a
   language model: it may or may not carry over what it learned, but decisions are drawn from its table of outputs, the
   tool reads the question itself, and the first network can already read a result (6 in 10) in all domains.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from ferrule.chat.answer import boxed
from ferrule.core.flows import Reward
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Message, Observation, Score, Task, Tool, Trajectory, plain_text
from ferrule.core.tally import tally
from ferrule.credit.group import group_relative
from ferrule.credit.keep import spread
from ferrule.rewards.outcome import is_right, outcome
from ferrule.studies.paper import Paper

__all__ = ["PAPER", "answer_tool", "answered", "level_reward", "levels", "outside", "recipe"]

_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)


def answer_tool(name: str = "answer") -> Tool:
    """Return the tool that ends an episode: its argument ``answer`` is the final answer."""
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    return Tool(name, "Give the final answer and finish.", schema, run=_give, terminal=True)


def _give(answer: str) -> Observation:
    inner = boxed(answer)
    return Observation(answer if inner is None else inner.strip(), terminal=True)


def outside(message: Message) -> bool:
    """Say whether a reply holds text that is neither a closed thought nor a call."""
    return bool(_THOUGHT.sub("", plain_text(message)).strip())


def answered(trajectory: Trajectory) -> bool:
    """Say whether a call of a terminal tool ended the episode."""
    return any(observation.terminal and observation.executed for _, observation in trajectory.calls)


def levels(called: bool, right: bool, malformed: int, stray: bool) -> tuple[int, int]:
    """Return the two levels of an episode: answer (-1 or 1) and form (-1, 0 or 1).

    ``called``: the answer tool was called; ``malformed``: calls that could not be read; ``stray``: text outside tags.
    """
    form = -1 if stray or not called else int(malformed == 0)
    return (1 if called and right else -1), form


def level_reward(task: Task, trajectories: Sequence[Trajectory], *, base: Reward = outcome) -> list[Score]:
    """Add the levels of answer and form: -2 to 2, parts ``answer``, ``format`` and ``outcome`` (1: a right answer)."""
    scores = []
    for given, trajectory in zip(base(task, trajectories), trajectories, strict=True):
        right = is_right(given)
        counts = tally(observation for _, observation in trajectory.calls)
        stray = any(outside(turn.reply) for turn in trajectory.turns)
        answer, form = levels(answered(trajectory), right, counts.malformed + counts.unknown_tool, stray)
        parts = {"answer": float(answer), "format": float(form), "outcome": float(answer > 0)}
        scores.append(Score(float(answer + form), parts=parts))
    return scores


def recipe(base: Recipe, *, num_generations: int = 8, longest: float = 2048.0, refill: int = 4) -> Recipe:
    """Return ``base`` with levels as reward, centred advantages, a constant denominator and mixed groups only."""
    from ferrule.objectives.reduce import constant
    from ferrule.objectives.surrogate import surrogate

    compare: Any = partial(group_relative, std="none")
    return vary(
        base,
        reward=partial(level_reward, base=base.reward),
        credit=compare,
        objective=partial(surrogate, lo=0.2, hi=0.28),
        reduce=partial(constant, denominator=longest),
        keep=spread(singletons=False),
        refill=refill,
        num_generations=num_generations,
        reference=False,
    )


PAPER = Paper(
    number=10,
    slug="tgrl",
    title="Can Tool-Integrated Reinforcement Learning Generalize Across Diverse Domains?",
    date="2025-10",
    url="https://arxiv.org/abs/2510.11184",
    pieces={"reward": level_reward, "answer_tool": answer_tool, "recipe": recipe},
    summary="One interface for all domains, in which finishing is a tool call as well, carries tool use across them.",
    reported="Tool use learned on maths carries over to other domains (abstract; no figures confirmed).",
)
