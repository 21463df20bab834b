"""Agents Learn Their Runtime: Interpreter Persistence as Training-Time Semantics (paper 26), March 2026.

https://arxiv.org/abs/2603.01209

Code-acting agents rely on variables that live from block to block, yet their training traces rarely say whether the
interpreter kept its state. Here persistence is the variable: one teacher solves the same Opaque Knapsack tasks with an
interpreter that keeps its state and with one that is wiped after every block, one student learns from each set of
traces, and both are run in both runtimes. Quality hardly differs; cost and crashes do.

Departures from the paper:

1. The teacher is a script (``teacher``), not a large model, and a perfect one: both sets hold the same inspections and
   takes, and no trace holds an error or a recovery. Its reset traces have 2.2 times the written tokens of its
   persistent ones; the published teacher used 3.0 times as many tokens. The ratio that students show can hardly pass
   that of their teacher.
2. The students are two copies of a 0.6 M parameter model (three layers, copying heads wired as in the pocket model)
   that learn from 1,200 traces, each seen once, instead of an 8 B model with adapters. They know nothing but these
   traces, so they cannot show what pretraining would contribute. Their tokenizer gives numbers below 100 and the keys
   of a table, punctuation included, one token each, so that so small a model copies literals without errors.
3. In training the system message states either runtime, drawn per trace, so it says nothing about the regime; in the
   2 x 2 it tells the truth. A persistent student trained with the true statement alone, to which the words of the other
   were new, failed all 60 development episodes in the reset runtime, 7 % with a NameError: unknown words broke its code
   before the runtime could. Whether a statement that was true in training is followed is therefore not measured here.
4. Tasks have 6 to 10 items with ids of one letter. Blocks are in a subset of Python (``language``), evaluated without a
   process; the world itself runs full Python in an isolated interpreter, with the same outcomes (tested).
5. ``CodeAct`` can show the list of globals in every outcome, as published, and few-shot examples; both are off in the
   claim, so the runtimes differ in the system message and in what becomes of variables only.
6. Tokens in the verdict are those that the model wrote. The length of the whole conversation and the score per thousand
   of its tokens are reported beside them; by length the ratio of S->P to P->P is smaller, since prompts and outcomes
   weigh on both.
7. The allowed classes are drawn from the instance's own seeded stream; in the released generator they come from the
   global random state, and an instance cannot be made again from its seed. The item that is allowed in any case is not
   the first of the list but any.
8. The control states the other runtime in the system message of students that changed runtimes (arms ``told
   otherwise``), that is, the regime they were trained in, and changes nothing else.
9. Sizes, steps and rate were chosen on one development seed and other tasks, where each student was tried alone and the
   persistent one with larger batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ferrule.agents.code import CodeAct
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Score, Task, Trajectory
from ferrule.evaluate.metrics import bootstrap_mean
from ferrule.papers.interpreter_persistence.experiment import (
    CELLS,
    DRAWS,
    SCALES,
    Cell,
    compare_tokens,
    per_thousand,
    run_seed,
)
from ferrule.papers.interpreter_persistence.teacher import paired_traces
from ferrule.studies.old import Condition, at_least, judged, scale_of
from ferrule.studies.paper import Claim, Paper

__all__ = ["PAPER", "claim", "conditions", "knapsack_score", "recipe"]


def knapsack_score(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Score episodes by taken value / optimal value, 0 to 1, from the world's state; part ``outcome``: solved."""
    return [
        Score(float(t.final.get("score", 0.0)), parts={"outcome": float(bool(t.final.get("solved")))})
        for t in trajectories
    ]


def recipe(base: Recipe, *, persistent: bool = True) -> Recipe:
    """Return ``base`` with the CodeAct agent, told whether variables persist, and the knapsack's score."""
    return vary(base, agent=CodeAct(persistent=persistent), reward=knapsack_score)


# ------------------------------------------------------------------------------------------------------------ the claim


def _pooled(runs: Sequence[Mapping[str, Any]], name: str, arm: str = "cells") -> list[Cell]:
    return [run[arm][name] for run in runs]


def conditions(runs: Sequence[Mapping[str, Any]]) -> list[Condition]:
    """Return what must hold, from the results of ``run_seed``, one per seed.

    More than 60 % of P->S episodes meet a NameError and less than 10 % of P->P and of S->S; S->P writes at least twice
    the tokens of P->P; zero lies in the bootstrap interval (5000 resamples over the tasks of all seeds) of the paired
    difference in score between P->P and S->S.
    """
    errors = {name: [float(np.mean(c.name_errors)) for c in _pooled(runs, name)] for name in CELLS}
    ratios = [compare_tokens(run["cells"]["S->P"], run["cells"]["P->P"]) for run in runs]
    paired = [
        100 * (p - s)
        for run in runs
        for p, s in zip(run["cells"]["P->P"].scores, run["cells"]["S->S"].scores, strict=True)
    ]
    found = bootstrap_mean(paired, draws=DRAWS)
    by_seed = np.asarray(paired).reshape(len(runs), -1).mean(axis=1)
    return [
        at_least("share of P->S episodes with a NameError", errors["P->S"], 0.6),
        at_least("a tenth less the share of P->P episodes with a NameError", [0.1 - v for v in errors["P->P"]], 0.0),
        at_least("a tenth less the share of S->S episodes with a NameError", [0.1 - v for v in errors["S->S"]], 0.0),
        at_least("tokens written, S->P by P->P", ratios, 2.0),
        Condition(
            name="score (0 to 100), P->P minus S->S; held when the bootstrap interval holds 0",
            values=tuple(float(v) for v in by_seed),
            effect=found.value,
            interval=found.interval,
            threshold=0.0,
            verdict="held" if found.low <= 0 <= found.high else "not held",
        ),
    ]


def _control(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the untrue statement changed, and whether students follow the statement or their training."""
    notes = []
    for name in runs[0]["untrue"]:
        true, untrue = (
            [(float(np.mean(c.written)), float(np.mean(c.name_errors))) for c in _pooled(runs, name, arm)]
            for arm in ("cells", "untrue")
        )
        (tokens, errors), (other, wrong) = np.mean(true, axis=0), np.mean(untrue, axis=0)
        notes.append(
            f"{name} with the other runtime stated: {other:.0f} tokens instead of {tokens:.0f}, "
            f"NameErrors in {wrong:.0%} of episodes instead of {errors:.0%}"
        )
    crashes = np.mean([np.mean(c.name_errors) for c in _pooled(runs, "P->S", "untrue")])
    ratio = np.mean([compare_tokens(run["untrue"]["S->P"], run["cells"]["P->P"]) for run in runs])
    habits = crashes > 0.6 and ratio >= 2
    notes.append(f"behaviour follows {'the training regime, not' if habits else 'at least in part'} the stated runtime")
    return notes


def _intervals(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return means over all tasks of all seeds with bootstrap intervals, per cell and quantity."""
    out: dict[str, Any] = {}
    for name in CELLS:
        cells = _pooled(runs, name)
        columns = {
            "score": [100 * v for c in cells for v in c.scores],
            "solved": [float(v) for c in cells for v in c.solved],
            "steps": [float(v) for c in cells for v in c.steps],
            "tokens": [float(v) for c in cells for v in c.written],
            "length": [float(v) for c in cells for v in c.length],
        }
        out[name] = {key: bootstrap_mean(values, draws=DRAWS).as_dict("mean") for key, values in columns.items()}
    return out


def claim(scale: str = "small", *, seeds: Sequence[int] = (0, 1, 2)) -> Claim:
    """Measure whether the regime of training shows in crashes and cost, not in quality, when students change runtimes.

    See ``conditions`` for what must hold. ``scale`` is ``"small"`` (1,200 trace pairs and 100 unseen tasks a seed) or
    ``"tiny"`` (to try the machinery).
    """
    size = scale_of(SCALES, scale)
    runs = [run_seed(size, seed) for seed in seeds]
    found = conditions(runs)
    # What decides is shown: the first condition that is not held, else the first.
    first = next((i for i, condition in enumerate(found) if condition.verdict == "not held"), 0)
    arms: dict[str, dict[str, list[float]]] = {}
    for kind, suffix in (("cells", ""), ("untrue", ", told otherwise")):
        for name in runs[0][kind]:
            rows = [c.summary() for c in _pooled(runs, name, kind)]
            arms[name + suffix] = {key: [row[key] for row in rows] for key in rows[0]}
    setup = {
        "scale": runs[0]["scale"],
        "teacher": [run["teacher"] for run in runs],
        "bootstrap": _intervals(runs),
    }
    return judged(
        found,
        first=first,
        paper="interpreter-persistence",
        statement="Students keep the runtime they were trained in: a mismatch costs crashes or tokens, not quality.",
        arms=arms,
        falsifier="S->P adapts (tokens within 1.2 times those of P->P), or P->S recovers without errors.",
        seeds=tuple(seeds),
        scale=scale,
        notes=_control(runs),
        setup=setup,
    )


PAPER = Paper(
    number=26,
    slug="interpreter-persistence",
    title="Agents Learn Their Runtime: Interpreter Persistence as Training-Time Semantics",
    date="2026-03",
    url="https://arxiv.org/abs/2603.01209",
    pieces={
        "recipe": recipe,
        "reward": knapsack_score,
        "paired_traces": paired_traces,
        "per_thousand": per_thousand,
    },
    claim=claim,
    summary="Whether variables survive a block, varied in training: crashes and cost follow it, quality does not.",
)
