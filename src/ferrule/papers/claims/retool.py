"""ReTool: the pocket model after a cold start with Python, without one, with its output learned, and in text alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ferrule.agents.react import ToolLoop
from ferrule.core.demonstration import Demonstration
from ferrule.core.recipe import Data
from ferrule.core.records import Task
from ferrule.data.formats import Row
from ferrule.papers.retool import small_recipe
from ferrule.studies.conditions import at_least, less, of
from ferrule.studies.learner import learner, taught
from ferrule.studies.study import Study
from ferrule.studies.table import plain
from ferrule.studies.tuning import Tuning
from ferrule.train.stage import demonstrations
from ferrule.worlds.arithmetic import Arithmetic

__all__ = ["STUDY", "Answered", "arm", "learned_whole"]

LEVELS = (2, 3)
"""Questions of two digits: the pocket model answers level 2 in its head in 7 of 10 cases and level 3 in none."""
PYTHON = Arithmetic(tools=("python",))
BRIEF: Mapping[str, float] = {"max_steps": 13, "learning_rate": 2e-4}
LONG: Mapping[str, float] = {"max_steps": 40, "learning_rate": 1e-3}
"""Supervised steps: one pass over 200 questions, after which scripts still fail in places; more for short answers."""
AGENT = ToolLoop(turns=3, max_tokens=64)
_METHOD = small_recipe(plain(agent=AGENT))


@dataclass(frozen=True)
class Answered(Arithmetic):
    """Arithmetic whose reference solutions answer at once, whatever tools are on offer: no cold start."""

    def demonstrate(self, task: Task, *, tool: str = "") -> Demonstration:
        """Return the answer alone."""
        return Demonstration((), str(task.answer))


def learned_whole(rows: Callable[[Any, int], Any]) -> Data:
    """Return rows whose tool output is learned like what the model writes."""
    return lambda policy, lap: [_unmasked(row) for row in rows(policy, lap)]


def _unmasked(row: Row) -> Row:
    turns: list[int] = []
    for turn in row.turn:
        turns.append(turns[-1] if turn < 0 and turns and turns[-1] >= 0 else turn)
    return replace(row, turn=tuple(turns))


def arm(
    *, seed: int, shown: int, part: float, sampled: int, world: Arithmetic, lessons: Mapping[str, float] = BRIEF,
    masked: bool = True, share: float = 1.0, **size: Any,
) -> dict[str, float]:  # fmt: skip
    """Fine-tune the pocket model on ``shown`` questions, train it by rewards, and judge it on held-out questions.

    ``part`` of the supervised steps of ``lessons`` are taken, and ``share`` of the budget of generated tokens. Not
    ``masked``, tool output is learned in the lessons.
    """

    def start(seed: int) -> Any:
        rows = demonstrations(world, tasks=shown, levels=LEVELS, seed=seed)
        settings: dict[str, Any] = {**lessons, "max_steps": max(1, round(part * lessons["max_steps"]))}
        return learner(rows if masked else learned_whole(rows), seed=seed, **settings)

    return taught(
        seed=seed, sampled=int(share * sampled), method=_METHOD, agent=AGENT, world=world, levels=LEVELS, start=start,
        **size,
    )  # fmt: skip


IN_TEXT, WITH, HALF = "text", "python", "python, half the tokens"
WITHOUT, WHOLE = "python, no cold start", "python, output learned"

STUDY = Study(
    paper="retool",
    statement="After a cold start a code tool passes text-only training of the same model with half of its tokens.",
    falsifier="Text-only training catches up within the same tokens, or neither the cold start nor the mask on output "
    "makes a difference.",
    grade="A",
    trained="the pocket model on 200 solved questions, then by group advantages on arithmetic; judged on held-out "
    "questions",
    arms={
        IN_TEXT: partial(arm, world=Arithmetic(tools=()), lessons=LONG),
        WITH: partial(arm, world=PYTHON),
        HALF: partial(arm, world=PYTHON, share=0.5),
        WITHOUT: partial(arm, world=Answered(tools=("python",)), lessons=LONG),
        WHOLE: partial(arm, world=PYTHON, masked=False),
    },
    asks=(
        at_least("success with Python minus text-only", less("success", WITH, IN_TEXT), 0.2),
        at_least("success with Python and half the tokens minus text-only", less("success", HALF, IN_TEXT), 0.0),
        at_least("success, cold start minus none", less("success", WITH, WITHOUT), 0.05),
        at_least("success, output masked minus learned", less("success", WITH, WHOLE), 0.05),
        at_least("a tenth less calls per task without a cold start", of(WITHOUT, "calls", factor=-1, plus=0.1), 0.0,
                 decides=False),
        at_least("text-only success at the start", of(IN_TEXT, "start"), 0.2, decides=False),
    ),
    sizes={
        "small": {"shown": 200, "part": 1.0, "sampled": 80_000, "tasks": 200, "batch": 64},
        "tiny": {
            "shown": 8, "part": 0.1, "sampled": 600, "tasks": 8, "batch": 16, "learning_rate": 1e-3,
        },
    },
    seeds=(100, 101, 102, 103, 104),
    tuning=Tuning("learning_rate", (1e-4, 3e-4, 1e-3), {"sampled": 20_000}),
    setup={"levels": LEVELS},
    models=("pocket",),
)  # fmt: skip
