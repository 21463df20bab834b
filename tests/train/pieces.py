"""Pieces that the training tests share: a world whose task a tiny model learns in seconds, and recipes over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tests.toys import Bench

from ferrule.core.flows import Ask, use
from ferrule.core.flows import ask as asking
from ferrule.core.recipe import Recipe
from ferrule.core.records import Message, Score, Task, Trajectory, Turn, plain_text
from ferrule.credit.group import group_relative
from ferrule.objectives.reduce import token_mean
from ferrule.objectives.surrogate import surrogate

LETTERS = Bench(name="letters")
LOW = "abcdefghijklm"


@dataclass(frozen=True)
class Speller:
    """Ask for replies of ``tokens`` tokens, ``turns`` of them; ``fold`` rewrites the context before the last."""

    turns: int = 1
    tokens: int = 1
    fold: bool = False

    def __call__(self, task: Task, session: Any) -> Any:
        messages = [Message("user", task.prompt)]
        said = []
        for turn in range(self.turns):
            if self.fold and turn and turn == self.turns - 1:
                messages = [Message("user", f"so far: {len(said)}")]
            (reply,) = yield from asking(Ask(tuple(messages), max_tokens=self.tokens))
            said.append(plain_text(reply.message))
            messages += [reply.message, Message("user", "more")]
            if reply.message.calls:
                yield from use(*reply.message.calls)
        return "".join(said)


def lowness(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """1 when the answer begins with one of the letters a to m."""
    return [Score(float(bool(t.answer) and str(t.answer)[0] in LOW)) for t in trajectories]


def seeded(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """A reward that depends on the ids only, so that groups have spread: the sum of the sampled ids, modulo 7."""
    return [Score(float(sum(i for turn in t.turns for i in turn.sampled) % 7)) for t in trajectories]


def recipe(**changes: Any) -> Recipe:
    """GRPO with a spelling agent on 4 samples."""
    base: dict[str, Any] = {
        "agent": Speller(turns=2, tokens=4),
        "reward": seeded,
        "credit": partial(group_relative, std="unbiased"),
        "objective": surrogate,
        "reduce": token_mean,
        "num_generations": 4,
    }
    return Recipe(**{**base, **changes})


def draw(count: int) -> list[Task]:
    """The first tasks of the world, always the same."""
    return LETTERS.tasks("train", count)


def fixed(shapes: Sequence[Sequence[tuple[int, int]]], *, fold: bool = False) -> list[Trajectory]:
    """Hand-made trajectories: (given, sampled) lengths per turn; ids count up from 10 (``fold``: no turn extends)."""
    out = []
    for row in shapes:
        at, turns = 10, []
        for k, (given, sampled) in enumerate(row):
            ids = tuple(range(at, at + given + sampled))
            at += given + sampled
            turns.append(
                Turn(
                    k,
                    k - 1 if k and not fold else None,
                    ids[:given],
                    ids[given:],
                    (-0.5,) * sampled,
                    Message("assistant", "x"),
                )
            )
        out.append(Trajectory(Task("t", "p"), tuple(turns), "x"))
    return out


def varied(base: Recipe, **changes: Any) -> Recipe:
    """``dataclasses.replace``, short."""
    return replace(base, **changes)
