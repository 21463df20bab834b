"""The experiment behind the claim: a student that adds in its head learns to call an adder, and what it forgets.

The student first learns sums of one-digit numbers in text. A scripted teacher then shows calls for short and long sums,
some of them wrong or overlong. Arms differ in which traces are learned from, at an equal number of tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ferrule.agents.react import ToolLoop
from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import Recipe
from ferrule.core.records import Trajectory
from ferrule.credit.group import group_relative
from ferrule.data.formats import Row
from ferrule.evaluate.metrics import pass_at_k
from ferrule.objectives.reduce import token_mean
from ferrule.objectives.surrogate import surrogate
from ferrule.papers.tir_recipe import Checkpoint, Trace, mixed, recipe, refused, select_checkpoint
from ferrule.papers.tir_recipe.students import Problem, Student, fit, learn, play, text_row, tool_row
from ferrule.rewards.outcome import outcome
from ferrule.studies.old import Condition, at_least, judged, over_seeds, scale_of
from ferrule.studies.paper import Claim

__all__ = ["ARMS", "SCALES", "Size", "measure", "run_seed"]

ARMS = ("tool traces", "tool and text traces", "random problems and text traces")
"""A, B and C: what the student is tuned on."""
RIGHT, LONGEST, SAMPLES, K = 0.85, 16, 8, 4
"""The teacher's accuracy, the longest trace (tokens), samples per pass rate, and k of pass@k."""


@dataclass(frozen=True)
class Size:
    """How large an experiment is: own tokens of both supervised stages, problems, steps of learning from rewards."""

    before: int
    tuning: int
    pool: int
    tests: int
    every: int
    steps: int


SCALES: Mapping[str, Size] = {
    "small": Size(250_000, 400_000, 3000, 400, 80, 20),
    "tiny": Size(800, 800, 24, 16, 1, 1),
}
"""Sizes by scale."""


def problems(count: int, rng: np.random.Generator, *, long: bool) -> list[Problem]:
    """Draw sums of numbers with one digit, or with three."""
    low, high = (100, 500) if long else (0, 10)
    return [Problem(int(a), int(b)) for a, b in rng.integers(low, high, (count, 2))]


def _right(played: Sequence[Trajectory]) -> FloatArray:
    return np.asarray([t.answer == t.task.answer for t in played], dtype=np.float64)


def pass_rates(student: Student, pool: Sequence[Problem], generator: torch.Generator) -> FloatArray:
    """Share of ``SAMPLES`` answers without a tool that are right, per problem."""
    played = play(student, [p for p in pool for _ in range(SAMPLES)], tools=False, generator=generator)
    return np.asarray(_right(played).reshape(len(pool), SAMPLES).mean(1))


def teach(pool: Sequence[Problem], p_text: FloatArray, rng: np.random.Generator) -> list[tuple[Trace, Row]]:
    """Return one trace of the teacher per problem: it thinks 3 tokens on average, and is right in 85 of 100 cases."""
    out = []
    for problem, alone in zip(pool, p_text, strict=True):
        think, good = min(int(rng.geometric(0.25)) - 1, 14), bool(rng.random() < RIGHT)
        answer = problem.digits if good else [(d + int(rng.integers(1, 10))) % 10 for d in problem.digits]
        row = tool_row(problem, think=think, answer=answer)
        p_tool = float(rng.binomial(SAMPLES, RIGHT)) / SAMPLES
        own = sum(turn >= 0 for turn in row.turn)
        out.append((Trace(p_tool, float(alone), own, good, 1), row))
    return out


def traces(student: Student, size: Size, seed: int) -> dict[str, list[Row]]:
    """Choose and mix the rows of every arm."""
    rng, generator = np.random.default_rng([seed, 1]), torch.Generator().manual_seed(seed)
    half = size.pool // 2
    pool = [*problems(half, rng, long=False), *problems(half, rng, long=True)]
    shown = teach(pool, pass_rates(student, pool, generator), rng)
    gainful = [row for trace, row in shown if not refused(trace, longest=LONGEST)]
    anyhow = [row for trace, row in shown if not refused(trace, least_gain=-2.0, longest=LONGEST)]
    picked = [anyhow[int(i)] for i in rng.permutation(len(anyhow))[: max(len(gainful), 1)]]
    text = [text_row(p, think=1) for p in problems(half, rng, long=False)]
    return {
        ARMS[0]: gainful or anyhow,
        ARMS[1]: mixed(gainful or anyhow, text, seed=seed),
        ARMS[2]: mixed(picked, text, seed=seed),
    }


def evaluate(student: Student, size: Size, seed: int) -> dict[str, float]:
    """Measure long sums with the tool, short ones without, and how often and how long it writes."""
    rng, generator = np.random.default_rng([seed, 2]), torch.Generator().manual_seed(seed + 1)
    long = play(student, problems(size.tests, rng, long=True), tools=True, generator=generator)
    short = problems(size.tests, rng, long=False)
    alone = play(student, short, tools=False, generator=generator)
    offered = play(student, short, tools=True, generator=generator)
    return {
        "long sums, tools on": float(_right(long).mean()),
        "short sums, tools off": float(_right(alone).mean()),
        "calls on short sums": float(np.mean([any(o.executed for _, o in t.calls) for t in offered])),
        "length": float(np.mean([t.sampled_count for t in long])),
    }


@dataclass
class _Keeper:
    """Keeps a copy of the student every so many steps, with pass@k, length and mean loss since the last one."""

    student: Student
    size: Size
    seed: int
    losses: list[float] = field(default_factory=list)
    rows: list[Checkpoint] = field(default_factory=list)
    states: dict[int, Any] = field(default_factory=dict)
    step: int = 0

    def __call__(self, loss: float) -> None:
        self.step += 1
        self.losses.append(loss)
        if self.step % self.size.every:
            return
        count = max(self.size.tests // 8, 2)
        dev = problems(count, np.random.default_rng([self.seed, 3]), long=True)
        generator = torch.Generator().manual_seed(self.seed + 2)
        played = play(self.student, [p for p in dev for _ in range(SAMPLES)], tools=True, generator=generator)
        right = _right(played).reshape(count, SAMPLES).sum(1)
        passed = float(np.mean([pass_at_k(SAMPLES, int(r), K) for r in right]))
        length = float(np.mean([t.sampled_count for t in played]))
        self.rows.append(Checkpoint(self.step, passed, length, float(np.mean(self.losses))))
        self.states[self.step] = copy.deepcopy(self.student.state_dict())
        self.losses.clear()


def _recipe() -> Recipe:
    base = Recipe(ToolLoop(), outcome, group_relative, surrogate, token_mean, samples=8)
    return recipe(base)


def rewarded(keeper: _Keeper, row: Checkpoint) -> dict[str, float]:
    """Learn from rewards from a checkpoint and evaluate."""
    student, rng = Student(), np.random.default_rng([keeper.seed, 4])
    student.load_state_dict(keeper.states[row.step])
    draw: Callable[[int], Sequence[Problem]] = lambda count: problems(count, rng, long=True)  # noqa: E731
    generator = torch.Generator().manual_seed(keeper.seed + 3)
    learn(student, _recipe(), draw, steps=keeper.size.steps, rate=1e-3, generator=generator)
    own = {"step": float(row.step), "pass@4 at start": row.passed, "length at start": row.length, "loss": row.loss}
    return {**evaluate(student, keeper.size, keeper.seed), **own}


def run_seed(seed: int, scale: str) -> dict[str, dict[str, float]]:
    """Run both parts with one seed."""
    size = SCALES[scale]
    torch.manual_seed(seed)
    first = Student()
    rows = [text_row(p, think=1) for p in problems(2000, np.random.default_rng([seed, 0]), long=False)]
    fit(first, rows, size.before, seed=seed, rate=1e-2)
    out, keepers = {"before": evaluate(first, size, seed)}, {}
    for arm, own in traces(first, size, seed).items():
        student = copy.deepcopy(first)
        keepers[arm] = _Keeper(student, size, seed)
        fit(student, own, size.tuning, seed=seed, rate=8e-3, watch=keepers[arm] if arm == ARMS[1] else None)
        out[arm] = evaluate(student, size, seed)
    keeper = keepers[ARMS[1]]
    lowest = min(keeper.rows, key=lambda row: row.loss)
    out["rewards, from the rule's checkpoint"] = rewarded(keeper, select_checkpoint(keeper.rows))
    out["rewards, from the lowest loss"] = rewarded(keeper, lowest)
    return out


def _conditions(column: Callable[[str, str], FloatArray]) -> list[Condition]:
    """Judge the arms; every difference is within a seed."""
    a, b, c = ARMS
    on, off = "long sums, tools on", "short sums, tools off"
    rule, lowest = "rewards, from the rule's checkpoint", "rewards, from the lowest loss"

    def gap(name: str, one: str, other: str) -> list[float]:
        return [float(x) for x in column(one, name) - column(other, name)]

    return [
        at_least("short sums without tools, mixed minus tool traces only", gap(off, b, a), 0.10),
        at_least("short sums without tools, before minus tool traces only", gap(off, "before", a), 0.15),
        at_least("short sums without tools, mixed minus before", gap(off, b, "before"), -0.05),
        at_least("long sums with tools, mixed minus tool traces only", gap(on, b, a), -0.03),
        at_least("long sums with tools, chosen minus random problems", gap(on, b, c), 0.0),
        at_least("long sums after rewards, rule minus lowest loss", gap(on, rule, lowest), -0.03),
        at_least("length after rewards, lowest loss minus rule", gap("length", lowest, rule), 0.0),
    ]


def measure(scale: str, seeds: Sequence[int]) -> Claim:
    """Compare mixtures of traces, and two checkpoints as starts of learning from rewards.

    Held when all hold by their 95 % intervals: tool traces alone cost 15 points of short sums without tools, mixing
    text in at most 5; both are alike on long sums with tools; chosen problems beat random ones; and the checkpoint rule
    is no worse a start than the lowest loss, with shorter rollouts. ``scale`` is ``"small"`` or ``"tiny"`` (to try).
    """
    size = scale_of(SCALES, scale)
    runs = [run_seed(seed, scale) for seed in seeds]
    conditions = _conditions(lambda arm, name: np.asarray([run[arm][name] for run in runs]))
    notes = []
    for arm in runs[0]:
        mean = {name: float(np.mean([run[arm][name] for run in runs])) for name in runs[0][arm]}
        notes.append(f"{arm}: " + ", ".join(f"{name} {value:.3f}" for name, value in mean.items()))
    return judged(
        conditions,
        paper="tir-recipe",
        statement="Text-only traces beside tool-advantaged ones keep what the model knew, at no loss with the tool.",
        arms=over_seeds({arm: [run[arm] for run in runs] for arm in runs[0]}),
        falsifier="Mixing text in does not reduce forgetting, or the lowest loss is the better start.",
        seeds=tuple(seeds),
        scale=scale,
        notes=notes,
        setup={
            "size": vars(size),
            "rho": 0.25,
        },
    )
