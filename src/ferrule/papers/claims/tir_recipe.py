"""TIR recipe: a student that adds in its head learns to call an adder; what it forgets, and where rewards start best.

The student first learns sums of one-digit numbers in text. A scripted teacher then shows calls for short and long sums,
some of them wrong or overlong. Rows differ in which traces are learned from, at an equal number of tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ferrule.core.arrays import FloatArray
from ferrule.core.records import Trajectory
from ferrule.credit.group import group_relative
from ferrule.data.filters import Trace, refused
from ferrule.data.formats import Row
from ferrule.data.mixing import mixed
from ferrule.evaluate.metrics import pass_at_k
from ferrule.papers.tir_recipe import Checkpoint, recipe, select_checkpoint
from ferrule.studies.conditions import at_least, less
from ferrule.studies.recurrent import Recurrent, fit_rows, one_thread, step_on_groups
from ferrule.studies.standins.additions import Problem, draw, play, student, text_row, tool_row
from ferrule.studies.study import Study
from ferrule.studies.table import plain
from ferrule.train.sample import Group, kept_of, scored

__all__ = ["STUDY", "pipeline", "traces"]

TOOL, MIXED, RANDOM = "tool traces", "tool and text traces", "random problems and text traces"
RULE, LOWEST = "rewards, from the rule's checkpoint", "rewards, from the lowest loss"
RIGHT, LONGEST, SAMPLES, K, GROUPS = 0.85, 16, 8, 4, 8
"""The teacher's accuracy, the longest trace (tokens), samples per pass rate, k of pass@k, and problems per batch."""


def _right(episodes: Sequence[Trajectory]) -> FloatArray:
    return np.asarray([episode.answer == episode.task.answer for episode in episodes], dtype=np.float64)


def _repeated(problems: Sequence[Problem]) -> list[Problem]:
    return [problem for problem in problems for _ in range(SAMPLES)]


def _taught(pool: Sequence[Problem], p_text: FloatArray, rng: np.random.Generator) -> list[tuple[Trace, Row]]:
    """Return one trace of the teacher per problem: it thinks 3 tokens on average, and is right in 85 of 100 cases."""
    shown = []
    for problem, alone in zip(pool, p_text, strict=True):
        think, good = min(int(rng.geometric(0.25)) - 1, 14), bool(rng.random() < RIGHT)
        answer = problem.digits if good else [(d + int(rng.integers(1, 10))) % 10 for d in problem.digits]
        row = tool_row(problem, think=think, answer=answer)
        p_tool = float(rng.binomial(SAMPLES, RIGHT)) / SAMPLES
        shown.append((Trace(p_tool, float(alone), sum(turn >= 0 for turn in row.turn), good, 1), row))
    return shown


def traces(model: Recurrent, pool: int, seed: int) -> dict[str, list[Row]]:
    """Choose and mix the rows of every arm from ``pool`` problems, half of them short."""
    rng, generator = np.random.default_rng([seed, 1]), torch.Generator().manual_seed(seed)
    half = pool // 2
    problems = [*draw(half, rng, long=False), *draw(half, rng, long=True)]
    alone = play(model, _repeated(problems), tools=False, generator=generator)
    shown = _taught(problems, _right(alone).reshape(len(problems), SAMPLES).mean(1), rng)
    gainful = [row for trace, row in shown if not refused(trace, longest=LONGEST)]
    anyhow = [row for trace, row in shown if not refused(trace, least_gain=-2.0, longest=LONGEST)]
    picked = [anyhow[int(i)] for i in rng.permutation(len(anyhow))[: max(len(gainful), 1)]]
    text = [text_row(problem, think=1) for problem in draw(half, rng, long=False)]
    chosen = gainful or anyhow
    return {TOOL: chosen, MIXED: mixed(chosen, text, seed=seed), RANDOM: mixed(picked, text, seed=seed)}


def _evaluated(model: Recurrent, tests: int, seed: int) -> dict[str, float]:
    """Measure long sums with the tool, short ones without, and how often and how long it writes."""
    rng, generator = np.random.default_rng([seed, 2]), torch.Generator().manual_seed(seed + 1)
    long = play(model, draw(tests, rng, long=True), tools=True, generator=generator)
    short = draw(tests, rng, long=False)
    alone = play(model, short, tools=False, generator=generator)
    offered = play(model, short, tools=True, generator=generator)
    return {
        "long sums, tools on": float(_right(long).mean()),
        "short sums, tools off": float(_right(alone).mean()),
        "calls on short sums": float(np.mean([any(o.executed for _, o in t.calls) for t in offered])),
        "length": float(np.mean([t.sampled_count for t in long])),
    }


@dataclass
class _Keeper:
    """Keeps a copy of the student every so many steps, with pass@k, length and mean loss since the last one."""

    model: Recurrent
    problems: Sequence[Problem]
    every: int
    seed: int
    losses: list[float] = field(default_factory=list)
    rows: list[Checkpoint] = field(default_factory=list)
    states: dict[int, Any] = field(default_factory=dict)
    step: int = 0

    def __call__(self, loss: float) -> None:
        self.step += 1
        self.losses.append(loss)
        if self.step % self.every:
            return
        generator = torch.Generator().manual_seed(self.seed + 2)
        episodes = play(self.model, _repeated(self.problems), tools=True, generator=generator)
        right = _right(episodes).reshape(-1, SAMPLES).sum(1)
        passed = float(np.mean([pass_at_k(SAMPLES, int(r), K) for r in right]))
        length = float(np.mean([t.sampled_count for t in episodes]))
        self.rows.append(Checkpoint(self.step, passed, length, float(np.mean(self.losses))))
        self.states[self.step] = copy.deepcopy(self.model.state_dict())
        self.losses.clear()


def _rewarded(keeper: _Keeper, row: Checkpoint, steps: int) -> Recurrent:
    """Learn from rewards on long sums with the tool, from a checkpoint."""
    model, rng, by = student(), np.random.default_rng([keeper.seed, 4]), recipe(plain(credit=group_relative))
    model.load_state_dict(keeper.states[row.step])
    generator = torch.Generator().manual_seed(keeper.seed + 3)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(steps):
        episodes = play(model, _repeated(draw(GROUPS, rng, long=True)), tools=True, generator=generator)
        groups = []
        for i in range(0, len(episodes), SAMPLES):
            same = tuple(episodes[i : i + SAMPLES])
            scores = scored(by, same[0].task, same, step)
            groups.append(Group(same[0].task, (), same, scores, tuple(range(SAMPLES)), step))
        step_on_groups(model, by, kept_of(by, groups), optimiser, step=step)
    return model


def pipeline(
    *, seed: int, before: int, tuning: int, pool: int, tests: int, every: int, steps: int
) -> Mapping[str, Mapping[str, float]]:
    """Train one start, tune a copy of it on every mixture of traces, and learn from rewards from two checkpoints.

    ``before`` and ``tuning`` are own tokens of both supervised stages.
    """
    with one_thread():
        torch.manual_seed(seed)
        start = student()
        rows = [text_row(problem, think=1) for problem in draw(2000, np.random.default_rng([seed, 0]), long=False)]
        fit_rows(start, rows, tokens=before, seed=seed, learning_rate=1e-2)
        results = {"before": _evaluated(start, tests, seed)}
        keeper = None
        for name, chosen in traces(start, pool, seed).items():
            model, watch = copy.deepcopy(start), None
            if name == MIXED:
                held_out = draw(max(tests // 8, 2), np.random.default_rng([seed, 3]), long=True)
                keeper = watch = _Keeper(model, held_out, every, seed)
            fit_rows(model, chosen, tokens=tuning, seed=seed, learning_rate=8e-3, watch=watch)
            results[name] = _evaluated(model, tests, seed)
        assert keeper is not None
        lowest = min(keeper.rows, key=lambda row: row.loss)
        for name, row in ((RULE, select_checkpoint(keeper.rows)), (LOWEST, lowest)):
            begun = {"step": row.step, "pass@4 at start": row.passed, "length at start": row.length, "loss": row.loss}
            results[name] = {**_evaluated(_rewarded(keeper, row, steps), tests, seed), **begun}
    return results


_ON, _OFF = "long sums, tools on", "short sums, tools off"

STUDY = Study(
    paper="tir-recipe",
    statement="Text-only traces beside tool-advantaged ones keep what the model knew, at no loss with the tool.",
    falsifier="Mixing text in does not reduce forgetting, or the lowest loss is the better start.",
    trained="a recurrent language model of 20,000 parameters on additions, with an adder and without",
    grade="B",
    arms={"pipeline": pipeline},
    asks=(
        at_least("short sums without tools, mixed minus tool traces only", less(_OFF, MIXED, TOOL), 0.10),
        at_least("short sums without tools, before minus tool traces only", less(_OFF, "before", TOOL), 0.15),
        at_least("short sums without tools, mixed minus before", less(_OFF, MIXED, "before"), -0.05),
        at_least("long sums with tools, mixed minus tool traces only", less(_ON, MIXED, TOOL), -0.03),
        at_least("long sums with tools, chosen minus random problems", less(_ON, MIXED, RANDOM), 0.0),
        at_least("long sums after rewards, rule minus lowest loss", less(_ON, RULE, LOWEST), -0.03),
        at_least("length after rewards, lowest loss minus rule", less("length", LOWEST, RULE), 0.0),
    ),
    sizes={
        "small": {"before": 250_000, "tuning": 400_000, "pool": 3000, "tests": 400, "every": 80, "steps": 20},
        "tiny": {"before": 30_000, "tuning": 40_000, "pool": 400, "tests": 80, "every": 20, "steps": 6},
    },
    seeds=(0, 1, 2),
    machine=("loss",),  # its last digits depend on the processor
    setup={"rho": 0.25},
)
